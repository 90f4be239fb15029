"""What can befall a training, for real: what the user is told, and that nothing that was there before is lost.

Kills: test_kills.py. Signals: test_commands.py. Changed data: data/test_seal.py. Damage to each file: test_resume.py.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.kills import differences
from landuse.tracking import metrics_file
from landuse.training.batches import TrainingBatches

from .run_folders import RUN_FILES, files, load, training

Mount = Callable[[str], None]


@pytest.fixture
def whole(command, tiny, tmp_path: Path) -> Path:
    """The run as it is without faults, of four epochs."""
    assert command("train", *tiny, "trainer.epochs=4", f"hydra.run.dir={tmp_path}/whole").status == 0
    return tmp_path / "whole"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A file system of its own, and how to mount it anew with other options."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True, capture_output=True)

    try:
        mount("size=1m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    try:
        yield disk, lambda options: mount(f"remount,{options}")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def tiny(tiny: list[str]) -> list[str]:
    """Some of these trainings are processes of their own, and sums are made in another order by more threads."""
    return [*tiny, "hardware.num_threads=1"]


def train(arguments: list[str], where: Path, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "landuse.train", *arguments]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


def test_a_disk_that_fills_up_keeps_what_it_has(tiny, whole: Path, small_disk: tuple[Path, Mount]) -> None:
    """Room for some checkpoints and not for all; with more of it the run goes on to the same end."""
    disk, remount = small_disk
    remount(f"size={sum(path.stat().st_size for path in whole.glob('checkpoints/*')) // 1024 + 12}k")
    arguments = [*tiny, "trainer.epochs=4", f"hydra.run.dir={disk}/run", "trainer.resume=auto"]
    done = train(arguments, whole.parent)
    assert done.returncode == 2
    assert "No space left on device. Make room or allow writing there" in done.stderr
    assert "Traceback" not in done.stderr
    before = metrics_file.read(disk / "run/metrics.jsonl")
    assert before
    remount("size=10m")
    assert train(arguments, whole.parent).returncode == 0
    assert files(disk / "run") == RUN_FILES
    assert list(differences(whole, disk / "run")) == []


def test_a_disk_that_came_back_read_only(tiny, whole: Path, small_disk: tuple[Path, Mount]) -> None:
    """As file systems do after an error of the disk."""
    disk, remount = small_disk
    remount("size=10m")
    arguments = [*tiny, f"hydra.run.dir={disk}/run", "trainer.resume=auto"]
    process = training([*arguments, "trainer.epochs=500"], whole.parent, disk / "run")
    process.kill()
    process.communicate()
    remount("ro")
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    epochs = len(metrics_file.read(disk / "run/metrics.jsonl"))
    again = [*arguments, f"trainer.epochs={epochs + 1}"]
    done = train(again, whole.parent)
    assert done.returncode == 2
    assert "ead-only file system" in done.stderr and "outputs=PATH" in done.stderr and "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before
    remount("rw")
    assert train(again, whole.parent).returncode == 0
    assert len(metrics_file.read(disk / "run/metrics.jsonl")) == epochs + 1


def test_a_quota_on_files(command, tiny, tmp_path: Path) -> None:
    assert command("preprocess", *tiny).status == 0
    run = tmp_path / "run"
    arguments = [*tiny, f"hydra.run.dir={run}", "trainer.resume=auto"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # noqa: E731
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}  # it writes files too
    done = train(arguments, tmp_path, preexec_fn=limit, env=environment)
    assert done.returncode == 2
    assert "Make room or allow writing there" in done.stderr and "Traceback" not in done.stderr
    assert train(arguments, tmp_path).returncode == 0
    assert files(run) == RUN_FILES


def test_memory_that_does_not_suffice(tiny, tmp_path: Path) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30, 2 * 2**30))  # noqa: E731
    large = ["model.width=512", "data.image_size=128", "trainer.batch_size=36"]
    done = train([*tiny, *large, "run_name=x"], tmp_path, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "error: Out of memory (" in done.stderr and "Lower trainer.batch_size" in done.stderr
    assert "Traceback" not in done.stderr
    assert load(tmp_path / "outputs/train/folder_cnn/x/summary.json")["status"] == "failed"


@pytest.mark.parametrize("what", ["loader", "tracker"])
def test_an_error_within_an_epoch_costs_the_steps_since_the_last_checkpoint(
    command, tiny, whole: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run, count = whole.parent / "run", 0

    def broken(really: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count == 13:  # of 5 a epoch
                raise OSError(5, "Input/output error")
            return really(*arguments)

        return call

    arguments = [*tiny, "trainer.epochs=4", f"hydra.run.dir={run}", "trainer.resume=auto"]
    with monkeypatch.context() as patch:
        if what == "loader":
            patch.setattr(TrainingBatches, "_share", broken(TrainingBatches._share))
        else:
            patch.setattr("landuse.tracking.console.Console.step", broken(lambda *_: None))
        done = command("train", *arguments)
    assert done.status == 1
    assert "Input/output error" in done.err and "Traceback" in done.err
    assert load(run / "summary.json")["status"] == "failed"
    assert len(metrics_file.read(run / "metrics.jsonl")) == 2
    assert command("train", *arguments).status == 0
    assert list(differences(whole, run)) == []


def test_a_clock_that_jumps(command, tiny, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back by a day and on by a year at every look; durations come from a clock that only runs on."""
    really, jumps = time.time, 0

    def jumping() -> float:
        nonlocal jumps
        jumps += 1
        return really() + (-86_400 if jumps % 2 else 31_536_000)

    monkeypatch.setattr(time, "time", jumping)
    run = whole.parent / "run"
    done = command("train", *tiny, "trainer.epochs=4", f"hydra.run.dir={run}")
    assert done.status == 0, done.err
    assert jumps >= 5
    assert list(differences(whole, run)) == []
    assert all(0 < record["seconds"] < 3600 for record in metrics_file.read(run / "metrics.jsonl"))
    assert 0 < load(run / "summary.json")["train_seconds"] < 3600


def test_a_flipped_bit_in_the_last_checkpoint(command, tiny, whole: Path) -> None:
    run = whole.parent / "run"
    arguments = [*tiny, f"hydra.run.dir={run}", "trainer.resume=auto"]
    process = training([*arguments, "trainer.epochs=500"], whole.parent, run)
    process.terminate()  # killed, it could be between the two files and leave no last.pt
    process.communicate()
    last = run / "checkpoints/last.pt"
    tensor = next(value for value in torch.load(last)["model"].values() if value.ndim == 1)
    content = bytearray(last.read_bytes())
    content[content.index(tensor.numpy().tobytes()) + 2] ^= 1
    last.write_bytes(content)
    epochs = len(metrics_file.read(run / "metrics.jsonl"))
    done = command("train", *arguments, f"trainer.epochs={epochs + 1}")
    assert done.status == 0, done.err
    assert "last.pt cannot be used (damaged" in done.err and "going on from" in done.err
    assert [record["epoch"] for record in metrics_file.read(run / "metrics.jsonl")] == list(range(epochs + 1))


def test_two_processes_at_once(tiny, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [*tiny, f"hydra.run.dir={run}", "trainer.resume=auto", "trainer.epochs=500"]
    first = training(arguments, tmp_path, run)
    second = train(arguments, tmp_path)
    assert first.poll() is None
    os.kill(first.pid, 15)
    first.communicate(timeout=60)
    assert second.returncode == 2
    assert f"Another process is training in {run}" in second.stderr
