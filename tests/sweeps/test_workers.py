"""Sweeps of several processes: shared, killed at any moment, stopped, and resumed. Real trainings of a second each."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest

from landuse.errors import SweepFailedError
from landuse.sweep import hydra_arguments
from landuse.sweeps import workers
from landuse.sweeps.board import LEADING, table
from landuse.sweeps.storage import open_storage
from landuse.sweeps.study import Sweep
from landuse.sweeps.workers import share_of_cores, visible_gpus
from tests.run_folders import load

from .plans import make_plan

PATIENCE_S = 240  # on a machine that is busy with other things


@pytest.fixture(scope="module")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


class Process:
    """A sweep of two workers in processes of its own."""

    def __init__(self, where: Path, arguments: list[str], on_sigint: Any = signal.default_int_handler) -> None:
        self.folder = where / "outputs/sweeps/s"
        command = [sys.executable, "-m", "landuse.train", "--multirun", "hydra/sweeper=landuse", *arguments]
        # A shell that starts the tests in the background lets SIGINT be ignored, which processes inherit.
        self.popen = subprocess.Popen(
            command, cwd=where, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, on_sigint),
        )  # fmt: skip

    def end(self, status: int) -> str:
        err = self.popen.communicate(timeout=PATIENCE_S)[1]
        assert self.popen.returncode == status, err
        return err

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.load_study(study_name="s", storage=open_storage(self.folder, None))
        except KeyError:  # there is none yet
            return []
        return study.get_trials(deepcopy=False)

    def wait_for_worker(self, num_finished: int = 0) -> int:
        """The process id of a worker that trains, once so many trials have finished."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            trials = self.trials() if (self.folder / "study.journal").exists() else []
            running = [t for t in trials if t.state.name == "RUNNING" and "worker" in t.user_attrs]
            if sum(t.state.name == "COMPLETE" for t in trials) >= num_finished and running:
                return int(running[-1].user_attrs["worker"].rpartition(":")[2])
            assert self.popen.poll() is None, self.popen.communicate()[1]
            time.sleep(0.05)
        raise AssertionError("no worker trains")

    def workers(self) -> list[int]:
        """Process ids of this process's children."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.popen.pid:
                    found.append(int(stat.parent.name))
        return found


@pytest.fixture
def start(tiny, shared_data: Path, tmp_path: Path) -> Iterator:
    started: list[Process] = []

    def run(*overrides: str, **options: Any) -> Process:
        own = ["hydra.sweeper.study_name=s", "hydra.sweeper.workers=2", "trainer.lr=interval(0.001,0.02)"]
        started.append(Process(tmp_path, [*tiny, *own, f"data.home={shared_data}", *overrides], **options))
        return started[-1]

    yield run
    for process in started:
        if process.popen.poll() is None:
            for worker in process.workers():
                os.kill(worker, signal.SIGKILL)
            process.popen.kill()
        process.popen.wait()
        process.popen.stderr.close()


def leaderboard(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_a_killed_worker_costs_one_trial(start) -> None:
    sweep = start("hydra.sweeper.n_trials=3")
    os.kill(sweep.wait_for_worker(), signal.SIGKILL)
    err = sweep.end(0)
    rows = {row["trial"]: row for row in leaderboard(sweep.folder)}
    states = [rows[number]["state"] for number in sorted(rows)]
    assert sorted(states) == ["complete", "complete", "complete", "failed"]
    killed = next(row for row in rows.values() if row["state"] == "failed")
    assert [row["trainer.lr"] for row in rows.values()].count(killed["trainer.lr"]) == 2
    assert "its process was killed" in (sweep.folder / "trials" / killed["trial"] / "error.txt").read_text()
    assert f"failed      trial {killed['trial']}: its process was killed" in err
    assert "was killed by SIGKILL: another takes its place" in err and "3 of 3 trials finished" in err


@pytest.mark.parametrize(
    ("number", "status", "on_sigint"),
    [(signal.SIGINT, 130, signal.default_int_handler), (signal.SIGTERM, 143, signal.SIG_IGN)],
)
def test_a_stopped_sweep_goes_on(start, number: int, status: int, on_sigint: Any) -> None:
    """The second as in a shell's background, where SIGINT is ignored."""
    sweep = start("hydra.sweeper.n_trials=2", "trainer.epochs=500", on_sigint=on_sigint)
    worker = sweep.wait_for_worker()
    sweep.popen.send_signal(number)
    err = sweep.end(status)
    assert is_gone(worker) and "Traceback" not in err
    assert "interrupted: trials that were" in err and "continue    the same command; a sweep goes on" in err
    assert {row["state"] for row in leaderboard(sweep.folder)} == {"interrupted", "waiting"}
    assert {trial.state.name for trial in sweep.trials()} == {"FAIL", "WAITING"}
    if number == signal.SIGTERM:
        stopped = [trial.params for trial in sweep.trials() if trial.params]
        resumed = start("hydra.sweeper.n_trials=2", "trainer.epochs=500")
        assert resumed.wait_for_worker()
        points = [trial.params for trial in resumed.trials() if trial.params]
        assert points[len(stopped)] in stopped  # the first; a second worker may have begun a new one by now


def test_workers_end_with_a_supervisor_that_is_killed(start) -> None:
    sweep = start("hydra.sweeper.n_trials=2", "trainer.epochs=500")
    sweep.wait_for_worker()
    workers = sweep.workers()
    sweep.popen.kill()
    assert workers and all(is_gone(worker) for worker in workers)
    assert {trial.state.name for trial in sweep.trials()} <= {"FAIL", "WAITING"}


def stop_at_random(sweep: Process, draws: random.Random) -> None:
    """SIGKILL the supervisor and all workers, or a worker alone and then all, at any moment of their first seconds."""
    time.sleep(draws.uniform(1, 9))
    if draws.random() < 0.5 and (workers := sweep.workers()):
        with suppress(ProcessLookupError):
            os.kill(draws.choice(workers), signal.SIGKILL)
        time.sleep(draws.uniform(0, 3))
    workers = sweep.workers()
    sweep.popen.kill()
    if draws.random() < 0.7:  # else they find out by themselves
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    sweep.popen.wait()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(start, seed: int) -> None:
    """Exactly so many trials finish, and none that had finished is touched or lost."""
    draws, kept = random.Random(seed), dict[str, bytes]()
    sweep_of_many = ["hydra.sweeper.n_trials=12", "hydra.sweeper.max_failures=20", "trainer.epochs=4"]
    for _ in range(6):
        sweep = start(*sweep_of_many)
        stop_at_random(sweep, draws)
        for summary in sweep.folder.glob("trials/*/summary.json"):
            if load(summary)["status"] == "completed":
                kept.setdefault(summary.parent.name, summary.read_bytes())
    sweep = start(*sweep_of_many)
    sweep.end(0)
    finished = {row["trial"]: row for row in leaderboard(sweep.folder) if row["state"] == "complete"}
    assert len(finished) == 12 and kept.keys() <= finished.keys()
    for number, content in kept.items():
        assert (sweep.folder / "trials" / number / "summary.json").read_bytes() == content
    for number, row in finished.items():
        summary = load(sweep.folder / "trials" / number / "summary.json")
        assert float(row["value"]) == pytest.approx(summary["val/accuracy"], rel=1e-5)
    assert len({row["trainer.lr"] for row in finished.values()}) == 12
    assert not {row["state"] for row in leaderboard(sweep.folder)} & {"running", "waiting"}
    before = (sweep.folder / "leaderboard.csv").read_bytes()
    again = start(*sweep_of_many)
    again.end(0)
    assert (sweep.folder / "leaderboard.csv").read_bytes() == before


@pytest.mark.slow
def test_two_starts_of_one_sweep_share_it(start) -> None:
    one, other = start("hydra.sweeper.n_trials=6"), start("hydra.sweeper.n_trials=6")
    one.end(0)
    other.end(0)
    assert [row["state"] for row in leaderboard(one.folder)] == ["complete"] * 6


@pytest.mark.slow
def test_workers_that_cannot_work_end_the_sweep(start, tmp_path: Path) -> None:
    """Their log says why, and so does the sweep."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif 'LANDUSE_SWEEP_SESSION' in os.environ: raise SystemExit('no luck here')\n"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        err = start("hydra.sweeper.n_trials=2").end(1)
    finally:
        os.environ["PYTHONPATH"] = os.environ["PYTHONPATH"].partition(os.pathsep)[2]
    assert "ended with status 1, see" in err and "no luck here" in err


class Ended:
    """A worker's process, as far as it is looked at."""

    pid = 1

    def __init__(self, code: int | None) -> None:
        self.returncode = code

    def poll(self) -> int | None:
        return self.returncode


def team(monkeypatch: pytest.MonkeyPatch, folder: Path, codes: list[int | None]) -> workers._Team:
    """Four workers of which the first ended with the first of these codes, and so on; replacements take the next."""

    def started(self: workers._Team, slot: int) -> workers._Worker:
        (folder / "worker.log").write_text("no luck here")
        return workers._Worker(slot, Ended(codes.pop(0)), folder / "worker.log")  # type: ignore[arg-type]

    monkeypatch.setattr(workers._Team, "_start", started)
    return workers._Team(Sweep(make_plan(folder), "one"), "one", 4, "cpu")


def test_workers_that_found_nothing_to_do_are_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials were being run, until one failed."""
    codes: list[int | None] = [0, 0, 0, 0, None, None, None, None]
    assert team(monkeypatch, tmp_path, codes).watch() and codes == []


def test_trials_of_another_machine_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them run there already."""
    other = Sweep(make_plan(tmp_path), "other")
    claimed = [other.claim() for _ in range(4)]
    waiting = team(monkeypatch, tmp_path, [0, 0, 0, 0])
    assert waiting.watch()
    for trial in claimed:
        other.complete(trial.number, [0.5], [])
    assert not waiting.watch()


def test_many_workers_leave_room_for_the_best_trials(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, n_trials=40), "one")
    for _ in range(20):
        sweep.complete(sweep.claim().number, [0.5], [])
    for _ in range(12):
        sweep.claim()
    assert table(sweep.record()).row_count == LEADING + 12


def test_workers_that_never_begin_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starting = team(monkeypatch, tmp_path, [-9] * 30)
    for _ in range(2):
        assert not starting.watch()
    with pytest.raises(SweepFailedError, match="was killed by SIGKILL, see .*\nno luck here"):
        starting.watch()


def test_workers_end_with_a_sentence_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike this process, to which Hydra is to hand its errors."""
    sweep, environments = Sweep(make_plan(tmp_path), "one"), []

    def popen(*_: object, env: dict[str, str], **__: object) -> Ended:
        environments.append(env)
        return Ended(None)

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    workers._Team(sweep, "one", 1, "cpu")
    assert environments[0]["HYDRA_FULL_ERROR"] == "0"


def test_the_short_command() -> None:
    assert hydra_arguments(["name=cnn_tpe", "workers=4", "n_trials=9", "dry_run=true", "trainer.lr=1,2"]) == [
        "--multirun", "+sweeps=cnn_tpe", "hydra.sweeper.workers=4", "hydra.sweeper.n_trials=9",
        "hydra.sweeper.dry_run=true", "trainer.lr=1,2",
    ]  # fmt: skip
    assert hydra_arguments(["-m", "name=x"]) == ["--multirun", "+sweeps=x", "hydra.sweeper.workers=1"]
    assert hydra_arguments(["name=x", "--cfg", "job"])[0] == "+sweeps=x"


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["name="], 2), (["--help"], 0), (["name=x", "-h"], 0)])
def test_the_short_commands_help(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        hydra_arguments(arguments)
    captured = capsys.readouterr()
    assert caught.value.code == status
    assert "usage: python -m landuse.sweep name=RECIPE" in (captured.out if status == 0 else captured.err)


def test_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 6}, raising=False)
    assert [share_of_cores(slot, 2) for slot in range(2)] == [[0, 2, 6], [1, 5]]
    assert [share_of_cores(slot, 7) for slot in range(7)] == [[0], [1], [2], [5], [6], [0], [1]]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    lines = ["GPU 0: A100 (UUID: GPU-1)", "  MIG 3g.20gb Device 0: (UUID: MIG-2)", "GPU 1: A100 (UUID: GPU-3)"]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7")
    assert visible_gpus() == ["3", "GPU-7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
