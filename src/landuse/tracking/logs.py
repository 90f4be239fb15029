"""The one logging set-up of every command: messages on stderr, the same with times in the run folder's log file."""

import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from landuse.config.processes import WORKER, Place
from landuse.config.schema import LogConfig
from landuse.errors import printable
from landuse.progress import terminal

NOISY_LIBRARIES = ("matplotlib", "PIL", "fontTools", "urllib3", "wandb", "torch", "filelock")
LONGEST_RECORD = 50_000  # characters
DEFAULT = LogConfig()
KEPT_FOR_THE_FILE = 10_000  # records said before there is a run folder

_installed: list[logging.Handler] = []  # by this module; those of others (a test runner's) are left alone


def to_stderr(config: LogConfig = DEFAULT) -> None:
    """Log to stderr: through rich on a terminal, which keeps a progress bar whole, else plain lines.

    Python's warnings, which libraries use for what only their authors can mend, go into the log file, where a command
    has one, and are not shown unless ``config.level`` is debug. Of several processes that train together, those after
    the first leave to it what all would say.

    A second job in the same process starts afresh: the handlers of the first, its log file included, are closed.
    """
    stop()
    level, file_level = (getattr(logging, name.upper()) for name in (config.level, config.file_level))
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("landuse").setLevel(min(level, file_level))
    place = Place.find()
    stderr = _TerminalHandler() if sys.stderr.isatty() else logging.StreamHandler()
    stderr.setLevel(max(level, logging.ERROR) if place.rank > 0 else level)
    stderr.addFilter(lambda record: record.name != "py.warnings" or level == logging.DEBUG)
    _install(stderr, f"rank {place.rank}: %(message)s" if place.rank > 0 else "%(message)s")
    kept = _Kept()
    kept.setLevel(file_level)
    _install(kept)
    for name in NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def stop() -> None:
    """Log nowhere any more; close the log file."""
    logging.captureWarnings(False)
    while _installed:
        handler = _installed.pop()
        logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk
            handler.close()


def to_file(path: Path) -> None:
    """Also log to a file, appending; what was said since :func:`to_stderr` comes first."""
    if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
        # In a stranger's folder a link may lead anywhere, and a pipe would be waited for.
        path.unlink()
    file = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    _install(file, f"%(asctime)s %(levelname)s {_who()}%(name)s: %(message)s")
    for handler in _installed:
        if isinstance(handler, _Kept):
            file.setLevel(handler.level)
            handler.hand_over(file)
            logging.getLogger().removeHandler(handler)


@contextlib.contextmanager
def also_to(path: Path, name: str) -> Iterator[None]:
    """Append what the logger ``name`` says to a file, whatever jobs come and go in the meantime."""
    file = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {_who()}%(message)s"))
    logging.getLogger(name).addHandler(file)
    try:
        yield
    finally:
        logging.getLogger(name).removeHandler(file)
        with contextlib.suppress(OSError):
            file.close()


def _who() -> str:
    """Which of several processes speaks: a rank of a training, a worker of a sweep; nothing where there is one."""
    place, worker = Place.find(), os.environ.get(WORKER)
    names = [f"worker {worker}"] if worker else []
    names += [f"rank {place.rank}"] if place.size > 1 else []
    return f"[{', '.join(names)}] " if names else ""


def _install(handler: logging.Handler, form: str | None = None) -> None:
    handler.setFormatter(_Printable(form))
    logging.getLogger().addHandler(handler)
    _installed.append(handler)


class _Printable(logging.Formatter):
    """Names of tensors and classes may come from strangers."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), LONGEST_RECORD)


class _Kept(logging.Handler):
    """What was said before there is a run folder, the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque(maxlen=KEPT_FOR_THE_FILE)

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def hand_over(self, file: logging.Handler) -> None:
        while self._records:
            file.handle(self._records.popleft())


class _LogFile(logging.FileHandler):
    """A log file that a full disk cuts short: what matters more fails then as well, with a message."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Nothing, where logging would print a traceback for each line."""


class _TerminalHandler(logging.Handler):
    """Lines as they are: not wrapped, so that a command can be copied, and not coloured."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, SystemExit):  # a terminal that is gone, which rich leaves the process for
            terminal().print(self.format(record), markup=False, highlight=False, soft_wrap=True)
