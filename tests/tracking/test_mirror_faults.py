"""Whatever goes wrong with W&B, in its real library: the run is what it is without, and says so once."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run, overrides
from tests.run_folders import commands

from .wandb_server import Server

TIMEOUT_S = 30  # in which a fault at the start is found, on a machine that is busy with other things
SHORT_S = 6  # where the fault is only found by waiting so long
Fault = Callable[[pytest.MonkeyPatch, Server, Path], Any]


@contextmanager
def no_key(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
    monkeypatch.delenv("WANDB_API_KEY")
    yield


@contextmanager
def nobody_listens(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    yield


@contextmanager
def never_answered(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{black_hole.getsockname()[1]}")
        yield


def answered_by(status: int) -> Fault:
    """To everything, from the start."""

    @contextmanager
    def fault(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
        server.status = status
        yield

    fault.__name__ = f"answered_by_{status}"
    return fault


@contextmanager
def server_errors_later(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
    with in_a_thread(lambda: "UpsertBucket" in server.asked, lambda: setattr(server, "status", 500)):
        yield


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
    def kill() -> None:
        for pid in mirrors(where):
            os.kill(pid, signal.SIGKILL)

    with in_a_thread(lambda: "UpsertBucket" in server.asked, kill):
        yield


@contextmanager
def not_installed(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
    (where / "broken").mkdir()
    (where / "broken" / "wandb.py").write_text("raise ImportError('there is no wandb')\n")
    monkeypatch.setenv("PYTHONPATH", str(where / "broken"))
    yield


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, server: Server, where: Path) -> Iterator[None]:
    """Where the library keeps its things; the run's own disk has room."""
    small = where / "outputs/train/folder_cnn/x/wandb"
    small.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        with suppress(OSError):
            (small / "full").write_bytes(bytes(10**6))
        for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
            monkeypatch.setenv(f"WANDB_{name}_DIR", str(small))
        yield
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@contextmanager
def in_a_thread(condition: Callable[[], bool], action: Callable[[], None]) -> Iterator[None]:
    """Do something once a condition holds, while the block runs."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            if condition():
                action()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def mirrors(where: Path) -> list[int]:
    """Processes of mirrors and of W&B's library that this test's commands have started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"HOME={where}/home".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes()
                if b"landuse.tracking.follow" in command or b"wandb-core" in command:
                    found.append(int(process.name))
    return found


def metrics(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: record[key] for key in record if key not in ("seconds", "images_per_second")} for record in records]


@pytest.fixture(scope="module")
def without(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The metrics of the same training without tracking."""
    where = tmp_path_factory.mktemp("without")
    plain = [*overrides(image_folder, where), "trainer.epochs=6", "hardware.num_threads=1", "run_name=x"]
    commands(where, ["train", *plain])
    return metrics(where / "outputs/train/folder_cnn/x")


@pytest.mark.parametrize(
    ("fault", "timeout_s", "reason"),
    [
        (no_key, TIMEOUT_S, "wandb login"),
        pytest.param(answered_by(401), TIMEOUT_S, "returned error 401", marks=pytest.mark.slow),
        (nobody_listens, SHORT_S, "connection refused"),
        pytest.param(never_answered, SHORT_S, "context deadline exceeded", marks=pytest.mark.slow),
        pytest.param(answered_by(500), SHORT_S, "HTTP 500", marks=pytest.mark.slow),
        pytest.param(server_errors_later, SHORT_S, "it had not taken everything after 6 s", marks=pytest.mark.slow),
        (killed, TIMEOUT_S, "ended with status -9"),
        (not_installed, TIMEOUT_S, "there is no wandb"),
        (full_disk, TIMEOUT_S, "No space left on device"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_is_said_once_and_changes_nothing(
    fault: Fault, timeout_s: int, reason: str, command: Run, tiny: list[str], server: Server, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, without: list[dict[str, Any]],
) -> None:  # fmt: skip
    arguments = [*tiny, "trainer.epochs=6", "hardware.num_threads=1"]
    with fault(monkeypatch, server, tmp_path):
        began = time.monotonic()
        done = command("train", *arguments, "run_name=x", "tracking=online", f"tracking.timeout_s={timeout_s}")
        seconds = time.monotonic() - began
    assert done.status == 0, done.err
    assert done.err.count("W&B failed") == 1 and reason in done.err, done.err
    assert "to send it later: python -m landuse.track run=" in done.err and "Traceback" not in done.err
    folder = tmp_path / "outputs/train/folder_cnn"
    assert metrics(folder / "x") == without
    assert seconds < timeout_s + 60  # not a speed: a hang would last for ever
    deadline = time.monotonic() + 20
    while mirrors(tmp_path):
        assert time.monotonic() < deadline, "something of it is left"
        time.sleep(0.1)
