"""Two processes through the door: one run folder, one that is killed, one that is not told to share."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from landuse.tracking import metrics_file

from .run_folders import RUN_FILES, files, load

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
# landuse.train, of which the second process alone fails in its seventh batch.
FAULTY = """
import os
from landuse.train import main
from landuse.training.batches import TrainingBatches

really_finish, count = TrainingBatches._finish, 0

def finish(self, share):
    global count
    count += 1
    if count == 7:
        {fault}
    return really_finish(self, share)

if os.environ["RANK"] == "1":
    TrainingBatches._finish = finish
main()
"""


def torchrun(where: Path, *arguments: str, script: Path | None = None) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    what = [str(script)] if script else ["-m", "landuse.train"]
    return subprocess.Popen(
        [*TORCHRUN, *what, *arguments], cwd=where, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]", within_s: float = 120) -> tuple[int, str]:
    _, errors = process.communicate(timeout=within_s)
    return process.returncode, errors


def wait_for_epochs(run: Path, count: int) -> None:
    deadline = time.monotonic() + 100
    while not (run / "metrics.jsonl").exists() or len(metrics_file.read(run / "metrics.jsonl")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers(torchrun_pid: int) -> dict[int, int]:
    """Process ids by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = dict(
                entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if "=" in entry
            )
        except OSError:  # it has ended
            continue
        if parent == torchrun_pid:
            found[int(environment["RANK"])] = int(folder.name)
    return found


@pytest.mark.slow
def test_two_processes_make_one_run_which_one_can_complete(tiny, tmp_path: Path) -> None:
    long = [*tiny, "hardware=ddp", "trainer.epochs=400", "trainer.device=cpu", "augment=strong"]
    process = torchrun(tmp_path, *long)
    while not (tmp_path / "outputs/latest/metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    run = (tmp_path / "outputs/latest").resolve()
    wait_for_epochs(run, 3)
    process.send_signal(signal.SIGTERM)
    _, errors = ended(process)
    assert errors.count("Interrupted in epoch") == 1 and errors.count("continue ") == 1
    assert load(run / "summary.json")["status"] == "interrupted"
    assert [path.name for path in run.parent.iterdir()] == [run.name]  # names have times in them
    assert errors.count("epoch   1/400") == 1

    done = len(metrics_file.read(run / "metrics.jsonl"))
    again = [*long, f"hydra.run.dir={run}", "trainer.resume=auto", f"trainer.epochs={done + 1}"]
    alone = subprocess.run(
        [sys.executable, "-m", "landuse.train", *again], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert alone.returncode == 0, alone.stderr
    assert "hardware: processes 2 then, 1 now" in alone.stderr and "processes: 2, each with its share" in errors
    assert files(run) == sorted([*RUN_FILES, "train.rank1.log"])
    assert "[rank 1] landuse.training" in (run / "train.rank1.log").read_text()
    assert [record["epoch"] for record in metrics_file.read(run / "metrics.jsonl")] == list(range(done + 1))
    status, errors = ended(torchrun(tmp_path, *again))
    assert status == 0 and errors.count("is finished already; nothing to do") == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_job_and_leaves_a_run_that_goes_on(tiny, tmp_path: Path, rank: int) -> None:
    run = tmp_path / "run"
    process = torchrun(tmp_path, *tiny, "hardware=ddp", "trainer.epochs=400", f"hydra.run.dir={run}")
    wait_for_epochs(run, 2)
    os.kill(workers(process.pid)[rank], signal.SIGKILL)
    status, errors = ended(process, within_s=30)
    assert status == 1
    assert f"error: Process {1 - rank} of 2 has lost another one" in errors
    assert "trainer.resume=auto" in errors and "SIGKILL" in errors
    epochs = len(metrics_file.read(run / "metrics.jsonl"))
    again = [*tiny, "hardware=ddp", f"trainer.epochs={epochs + 1}", f"hydra.run.dir={run}", "trainer.resume=auto"]
    status, errors = ended(torchrun(tmp_path, *again))
    assert status == 0, errors
    assert load(run / "summary.json")["epochs"] == epochs + 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(
            "raise MemoryError('no room')",
            "error: Out of memory (no room). Lower trainer.batch_size",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "from landuse.errors import UserError; raise UserError('A mistake of one.')",
            "error: A mistake of one.",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_befalls_one_process_is_said(tiny, tmp_path: Path, fault: str, message: str) -> None:
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY.format(fault=fault))
    status, errors = ended(torchrun(tmp_path, *tiny, "hardware=ddp", "run_name=x", script=script))
    assert status == 1
    assert errors.count(message) == 1
    assert "error: Process 0 of 2 has lost another one, which has ended; its own message says why." in errors
    assert load(tmp_path / "outputs/train/folder_cnn/x/summary.json")["status"] == "failed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "torchrun started 2 processes, each of which would train a run of its own: add hardware=ddp."),
        (["hardware=ddp", "run_name=x"], "already holds a run"),
        (["hardware=ddp", "--multirun", "seed=1,2"], "Each training of several (--multirun, sweeps) is one process's"),
    ],
)
def test_a_mistake_is_said_once(tiny, tmp_path: Path, change: list[str], message: str) -> None:
    run = tmp_path / "outputs/train/folder_cnn/x"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").touch()
    status, errors = ended(torchrun(tmp_path, *tiny, *change))
    assert status == 1, errors  # torchrun's
    assert errors.count(message) == 1 and errors.count("error: ") == 1
    assert "exitcode  : 2" in errors
    assert sorted(path.name for path in run.parent.iterdir()) == ["x"]
