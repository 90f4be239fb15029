"""Weights & Biases as a mirror of a run folder, in a process of its own.

That process (tracking/follow.py) reads what the run writes and copies it. So whatever W&B does, hang, raise, fill a
disk or die, the run does not wait for it, and where the run is killed, what it had recorded still arrives. Here is the
run's side: starting that process, saying once what goes wrong, and waiting for it at the end, not for ever.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from landuse.config.overrides import typed
from landuse.config.schema import Config, TrackingConfig
from landuse.errors import Interrupted, printable
from landuse.files import read_mapping, write_json

log = logging.getLogger(__name__)

LOG, IDENTITY = "tracking.log", "wandb.json"
LARGEST = 1_000_000  # bytes of the files that are read here
INTERRUPTED_S = 10.0  # to wait at most after an interruption: a cluster kills what is not gone in half a minute
KILLED_WITHIN_S = 5.0
LONGEST_REASON = 500  # characters
SAYS_THAT_IT_WAITS_AFTER_S = 3.0


@dataclasses.dataclass(frozen=True)
class Order:
    """What the process is told at its start: one line of JSON."""

    folder: str
    name: str
    id: str
    job_type: str
    parent: int  # process id, whose memory and load are recorded
    tracking: dict[str, Any]  # TrackingConfig


class Mirror:
    """A process that copies a run folder to W&B while a command works on it."""

    def __init__(self, tracking: TrackingConfig, folder: Path, name: str, job_type: str) -> None:
        """Start it. Never raises an Exception: what fails is said in a warning, once.

        Args:
            name: what W&B calls the run.
            job_type: train, for example.
        """
        self._folder, self._limit = folder, tracking.timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._has_warned = self._is_done = False
        try:
            identity = _identity(folder, job_type)
            order = Order(str(folder.resolve()), name, *identity, os.getpid(), dataclasses.asdict(tracking))
            self._process = _start(folder, order)
        except Exception as error:  # no memory for a process, no room for a file
            self._warn(f"{type(error).__name__}: {error}")
        else:
            self._reader = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
            self._reader.start()

    def finish(self, status: int, *, in_a_hurry: bool = False) -> None:
        """Have it copy what is there now, and wait until it has, for ``tracking.timeout_s`` seconds at most.

        Args:
            status: of the command; 0 if all went well.
            in_a_hurry: wait no longer than ``INTERRUPTED_S``.
        """
        if self._process is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it is gone already
            assert self._process.stdin is not None
            self._process.stdin.write(f"{status}\n".encode())
            self._process.stdin.close()
        limit = min(self._limit, INTERRUPTED_S) if in_a_hurry else self._limit
        try:
            self._wait(limit)
        finally:
            self._end()
        self._reader.join(1.0)
        if not self._is_done:
            self._warn(f"its process ended with status {self._process.returncode}, see {self._folder / LOG}")

    def _wait(self, limit: float) -> None:
        assert self._process is not None
        until = time.monotonic() + limit
        try:
            self._process.wait(min(limit, SAYS_THAT_IT_WAITS_AFTER_S))
        except subprocess.TimeoutExpired:
            log.info("W&B         uploading, for %.0f s at most (tracking.timeout_s)", limit)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, until - time.monotonic()))
                return
            self._warn(f"it had not taken everything after {limit:.0f} s")

    def _end(self) -> None:
        """Nothing of it is left behind; the service that W&B's library starts ends with the process that started it."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may hang in a disk that is gone
            self._process.wait(KILLED_WITHIN_S)

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        """In a thread: what the process says, which is next to nothing."""
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError, AttributeError):
                said = json.loads(line)
                if url := said.get("url"):
                    log.info("W&B         %s", printable(str(url), LONGEST_REASON))
                if reason := said.get("error"):
                    self._warn(reason)
                self._is_done |= bool(said.get("done"))

    def _warn(self, reason: str) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        log.warning(
            "W&B failed and is left out from here on (%s). The run is not affected and records everything; to send it "
            "later: python -m landuse.track %s",
            printable(reason, LONGEST_REASON).rstrip("."), typed("run", self._folder),
        )  # fmt: skip

    @property
    def is_complete(self) -> bool:
        """After :meth:`finish`: whether W&B has everything."""
        return self._is_done and not self._has_warned


@contextlib.contextmanager
def mirroring(config: Config, folder: Path, command: str, *, is_new: bool = False) -> Iterator[None]:
    """Copy a run folder to W&B while the block works on it, unless ``tracking=off``.

    Args:
        command: train, for example; W&B's job type.
        is_new: it is another run than the one that was sent from this folder before, if any.
    """
    if is_new:
        with contextlib.suppress(OSError):
            (folder / IDENTITY).unlink()
    if config.tracking.mode == "off":
        yield
        return
    mirror = Mirror(config.tracking, folder, _name(config, folder), command)
    is_in_a_hurry = False
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        is_in_a_hurry = True
        raise
    finally:
        mirror.finish(_exit_code(folder), in_a_hurry=is_in_a_hurry)


def send(config: Config, folder: Path) -> bool:
    """Copy a run folder to W&B as it is; whether W&B has everything then."""
    mirror = Mirror(config.tracking, folder, _name(config, folder), "train")
    mirror.finish(_exit_code(folder))
    return mirror.is_complete


def _exit_code(folder: Path) -> int:
    """How W&B shall say that the run ended: 0 as finished, 1 as failed."""
    return 0 if read_mapping(folder / "summary.json", LARGEST).get("status") in ("completed", "pruned") else 1


def _name(config: Config, folder: Path) -> str:
    return f"{config.experiment_name}/{folder.resolve().name}"


def _start(folder: Path, order: Order) -> "subprocess.Popen[bytes]":
    with _open_log(folder / LOG) as errors:
        process = subprocess.Popen(
            # -P: the folder in which the command was started is no place for modules.
            [sys.executable, "-P", "-m", "landuse.tracking.follow"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, start_new_session=True,  # Ctrl-C is the run's
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it has ended already, which is found out when it is waited for
        process.stdin.write(json.dumps(dataclasses.asdict(order)).encode() + b"\n")  # a few hundred bytes: never waits
        process.stdin.flush()
    return process


def _open_log(path: Path) -> Any:
    if path.is_symlink() or (path.exists() and not path.is_file()):  # a stranger's folder: it may lead anywhere
        return Path(os.devnull).open("wb")
    return path.open("ab")


def _identity(folder: Path, job_type: str) -> tuple[str, str]:
    """The run's id and job type in W&B, the same for every command that works on this folder."""
    path = folder / IDENTITY
    found = read_mapping(path, LARGEST)
    number, job = found.get("id"), found.get("job_type")
    if isinstance(number, str) and re.fullmatch("[a-z0-9]{1,64}", number) and isinstance(job, str):
        return number, job
    number = secrets.token_hex(4)
    write_json(path, {"id": number, "job_type": job_type})
    return number, job_type
