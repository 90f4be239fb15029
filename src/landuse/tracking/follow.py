"""python -m landuse.tracking.follow: copy a run folder to W&B while it grows, then what came of it.

Started by tracking/mirror.py, which writes an order (one line of JSON) to its stdin and at the end the run's status. It
answers on stdout in lines of JSON: where the run can be seen, what went wrong, and that all is done. Where the run is
killed, stdin ends without a status: the run is then closed as crashed.

An epoch that W&B has already is not sent again, so the same serves a resumed run, an evaluation later on, and a run
that is sent as a whole after the fact.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from filelock import FileLock, Timeout

from landuse.addresses import without_passwords
from landuse.config.schema import TrackingConfig
from landuse.files import is_own, read_mapping
from landuse.runs import read_config
from landuse.tracking import metrics_file
from landuse.tracking.mirror import Order
from landuse.tracking.results import LARGEST, Results

POLL_S = 1.0
CRASHED = 1
LOCK = ".tracking.lock"


def main() -> None:
    """Do what the order says; exit with 0 where everything was copied."""
    answers = _own_stdout()
    try:
        order = Order(**json.loads(_read_line()))
        for number in (signal.SIGINT, signal.SIGTERM):  # by which the run may be stopped: what it leaves is copied yet
            signal.signal(number, signal.SIG_IGN)
        end = _End()
        with redirect_stdout(sys.stderr), _alone(Path(order.folder), end, 0.5 * order.tracking["timeout_s"]):
            _follow(order, end, answers)
    except BaseException as error:
        _say(answers, error=_reason(error))
        raise
    _say(answers, done=True)


def _follow(order: Order, end: "_End", answers: IO[str]) -> None:
    tracking, folder = TrackingConfig(**order.tracking), Path(order.folder)
    _clear_way(folder)
    older = set(folder.glob(f"wandb/offline-run-*-{order.id}"))
    run = _start(order, tracking)
    with suppress(OSError, AttributeError):
        os.nice(19)  # leave the cores to the run
    if tracking.mode == "online":
        _say(answers, url=run.url)
    history = _History(run, folder)
    while not end.is_there.wait(POLL_S):
        history.copy()
    status = CRASHED if end.status is None else end.status
    results = Results(run, folder, tracking)
    with _limited(tracking.timeout_s) if end.status is None else contextlib.nullcontext():
        try:
            history.copy()
            results.copy()
        finally:
            run.finish(exit_code=status)
            results.remember()
    for segment in older:  # an offline run cannot be continued: the new one has everything
        if not segment.is_symlink():
            shutil.rmtree(segment, ignore_errors=True)


def _clear_way(folder: Path) -> None:
    """W&B's library writes into these folders and reads settings from them: a stranger's may lead anywhere."""
    os.environ["WANDB_DIR"] = str(folder)
    for name in ("wandb", ".wandb"):
        if (folder / name).is_symlink():
            (folder / name).unlink()
        (folder / name / "settings").unlink(missing_ok=True)


def _start(order: Order, tracking: TrackingConfig) -> Any:
    import wandb

    is_online = tracking.mode == "online"
    return wandb.init(
        id=order.id, resume="allow" if is_online else None,
        project=tracking.project, entity=tracking.entity, group=tracking.group, tags=tracking.tags,
        name=order.name, job_type=order.job_type, dir=order.folder, config=_config(Path(order.folder)),
        settings=wandb.Settings(
            mode="online" if is_online else "offline",
            silent=True, console="off", save_code=False, disable_git=True,
            # Within what the run waits at its end, so that there is time to say what was wrong.
            init_timeout=0.9 * tracking.timeout_s, finish_timeout=0.7 * tracking.timeout_s, finish_timeout_raises=True,
            x_stats_pid=order.parent,
        ),
    )  # fmt: skip


def _config(folder: Path) -> dict[str, Any]:
    """The run's configuration, and what its result depends on besides."""
    path = folder / "provenance.json"
    provenance = read_mapping(path, LARGEST) if is_own(path, folder, LARGEST) else {}
    config = read_config(folder) if is_own(folder / "config.yaml", folder, LARGEST) else {}
    return cast(dict[str, Any], without_passwords(config | {"provenance": provenance}))


@contextlib.contextmanager
def _alone(folder: Path, end: "_End", patience_s: float) -> Iterator[None]:
    """Hold the run folder's mirror: two processes would send everything twice. It ends with the process.

    Another one, of the training before that was killed for example, is waited for as long as the run is under way, and
    so many seconds more.
    """
    path = folder / LOCK
    if path.is_symlink():  # no lock of ours
        path.unlink()
    lock = FileLock(path)
    while True:
        with suppress(Timeout):
            lock.acquire(timeout=POLL_S)
            break
        if end.seconds_since() > patience_s:
            raise RuntimeError("another process is sending this run")
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End this process where the block takes longer: nobody else does."""
    timer = threading.Timer(seconds, lambda: os._exit(CRASHED))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass
class _History:
    """metrics.jsonl, epoch by epoch."""

    run: Any
    folder: Path

    def __post_init__(self) -> None:
        last = self.run.summary.get("epoch")  # of a run that goes on, W&B sends along what it has
        if last is None and self.run.starting_step > 0:
            raise RuntimeError("W&B did not say which epochs it has")
        self._path, self._size = self.folder / "metrics.jsonl", -1
        self._last = int(last) if isinstance(last, int | float) else -1

    def copy(self) -> None:
        """Send the epochs that W&B does not have."""
        if not is_own(self._path, self.folder, metrics_file.LARGEST) or self._path.stat().st_size == self._size:
            return
        self._size = self._path.stat().st_size
        for record in metrics_file.read(self._path):
            if record["epoch"] > self._last:
                # The step of the optimiser; further on where W&B has gone beyond it, which would drop the record.
                self.run.log(record, step=max(record.get("step", record["epoch"]), self.run.step), commit=True)
                self._last = record["epoch"]


class _End:
    """The run's status, once it has come to its end."""

    def __init__(self) -> None:
        self.is_there, self.status = threading.Event(), cast(int | None, None)
        self._came_at = math.inf
        threading.Thread(target=self._listen, daemon=True).start()

    def seconds_since(self) -> float:
        """Negative infinity as long as it has not come."""
        return time.monotonic() - self._came_at

    def _listen(self) -> None:
        with suppress(ValueError, OSError):
            self.status = int(_read_line())
        self._came_at = time.monotonic()
        self.is_there.set()


def _read_line() -> bytes:
    """From stdin, past Python's buffers: a thread that waits in one of them can abort the end of the process."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line


def _own_stdout() -> IO[str]:
    """The pipe to the run. What libraries and their processes print goes to stderr, so that the pipe ends with us."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _say(answers: IO[str], **message: Any) -> None:
    with suppress(OSError):  # nobody is there
        answers.write(json.dumps(message) + "\n")
        answers.flush()


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "api_key" in text or "not logged in" in text or type(error).__name__ == "AuthenticationError":
        text += " Log in with `wandb login`, set WANDB_API_KEY, or use tracking=offline."
    return text


if __name__ == "__main__":
    main()
