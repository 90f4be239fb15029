"""What the commands do where the machine does not play along: closed streams, full and read-only disks."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from landuse import files


def test_closed_stderr(tmp_path: Path) -> None:
    program = f"{sys.executable} -m landuse.report run=nowhere 2>&-"
    done = subprocess.run(program, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""


ENDS = """
import atexit, sys, threading, time
from landuse.cli import leave

class TakenApart:
    def __del__(self):
        print("taken apart")

kept = TakenApart()
atexit.register(print, "told")
{0}
leave()
"""


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ("print('said')", "said\ntold\n"),
        (
            "threading.Thread(target=lambda: print(time.sleep(0.2), 'worked')).start()",
            "None worked\ntold\ntaken apart\n",
        ),
        ("threading.Thread(target=time.sleep, args=[60], daemon=True).start()", "told\n"),
    ],
)
def test_leaving(more: str, output: str) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS.format(more)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_a_library_makes_an_error_of(
    command, tiny, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def composed(config: object) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            raise AttributeError("something half done")

    monkeypatch.setattr("landuse.config.compose.to_config", composed)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    done = command("train", *tiny)
    assert done.status == status and "half done" not in done.err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_leaving_with_output_that_nobody_takes() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-c", ENDS.format("print('said')")]
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert done.returncode == 120  # Python's own
    assert "BrokenPipeError" in done.stderr


def fills_up(monkeypatch: pytest.MonkeyPatch, after: int, number: int = errno.ENOSPC) -> None:
    """From the so-maniest file on, what is written meets a full disk, without the file's name as the system has it."""
    count = 0
    plain = os.fsync

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(number, os.strerror(number))
        plain(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)


@pytest.mark.parametrize("after", range(4, 19, 2))
def test_full_disk_while_training(command, tiny, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    assert command("preprocess", *tiny).status == 0
    fills_up(monkeypatch, after)
    done = command("train", *tiny)
    if done.status != 0:
        assert done.status == 2
        (message,) = (line for line in done.err.splitlines() if "rror" in line)
        assert message.startswith("error: While writing: No space left on device. Make room")
        assert "outputs=PATH" in message
        assert "Traceback" not in done.err
    else:
        assert after > 8


@pytest.mark.parametrize("after", [0, 1, 2, 4, 7])
def test_full_disk_while_evaluating(command, tiny, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    assert command("train", *tiny).status == 0
    fills_up(monkeypatch, after)
    done = command("evaluate")
    assert done.status == 2
    assert "could not take all results (No space left on device)" in done.err
    assert "evaluate again" in done.err
    assert "Traceback" not in done.err


def test_read_only_run(command, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("train", *tiny).status == 0
    fills_up(monkeypatch, 0, errno.EROFS)
    done = command("report")
    assert done.status == 2
    assert "Read-only file system" in done.err and "run=PATH" in done.err
    assert "outputs=" not in done.err and "data.home" not in done.err


@pytest.mark.parametrize(
    "text", ["Error while serializing: I/O error: No space left on device (os error 28)", "unexpected pos 64 vs 0"]
)
def test_full_disk_in_the_words_of_libraries(command, tiny, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr("landuse.files.Path.replace", full)
    done = command("train", *tiny)
    assert done.status == 2
    assert "error: While writing: No space left on device" in done.err
