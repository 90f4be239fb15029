"""Where a study is kept, and locks that end with whoever holds them.

By default both are files in the sweep's folder: Optuna's journal, and locks of the operating system. With a PostgreSQL
URL the study is in the database and so are the locks (advisory ones, which end with the connection), for workers on
several machines.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from filelock import FileLock, Timeout

from landuse.errors import UserError
from landuse.sweeps.database import DatabaseLocks, open_database, shown_url

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "study.journal"
ONE_AT_A_TIME = -1  # the lock's number under which a study is changed; trials have theirs
SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")


class Locks(Protocol):
    """Numbered locks of one study."""

    def acquire(self, number: int, *, wait: bool) -> bool:
        """Take a lock; False where another holds it and ``wait`` is not set."""
        ...

    def release(self, number: int) -> None:
        """Give a lock back that this object holds."""
        ...

    def take_abandoned(self, numbers: Sequence[int]) -> list[int]:
        """Take those of these locks whose holders are gone for good."""
        ...


class FileLocks:
    """Locks of the operating system on files: a process that is killed lets go of them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._held = folder, dict[int, FileLock]()

    def acquire(self, number: int, *, wait: bool) -> bool:
        if number in self._held:
            return False
        lock = FileLock(self._folder / ("study" if number == ONE_AT_A_TIME else f"trial-{number}"))
        self._held[number] = lock  # first, so that it can be given back if a signal comes right after it is taken
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            del self._held[number]
            return False
        return True

    def release(self, number: int) -> None:
        if number in self._held:
            self._held.pop(number).release()

    def take_abandoned(self, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if self.acquire(number, wait=False)]


@contextmanager
def exclusive(locks: Locks) -> Iterator[None]:
    """Let nobody else change the study in the meantime."""
    try:
        locks.acquire(ONE_AT_A_TIME, wait=True)
        yield
    finally:
        locks.release(ONE_AT_A_TIME)


def check_url(url: str | None) -> None:
    """Refuse a storage that sweeps cannot use.

    Raises:
        UserError: says which they can.
    """
    if url is not None and url.partition("://")[0] not in SCHEMES:
        raise UserError(
            f"hydra.sweeper.storage={shown_url(url)}: give null for a file in the sweep's folder, or "
            "postgresql://USER@HOST/DATABASE (the password in PGPASSWORD)."
        )
    before, _, options = (url or "").partition("?")
    if before.count("@") > 1 or "@" in options:  # what follows it would be the server's name, which messages show
        raise UserError(
            f"hydra.sweeper.storage={shown_url(before)}: write @ in a password as %40, or put it in PGPASSWORD."
        )


def open_storage(folder: Path, url: str | None, is_under_way: bool = False) -> "BaseStorage":
    """The study's storage: a journal file in ``folder``, or the database of ``url``.

    Args:
        is_under_way: as :func:`landuse.sweeps.database.open_database`.

    Raises:
        UserError: the database cannot be reached, or its driver is not installed.
    """
    return _journal(folder) if url is None else open_database(url, is_under_way)


def open_locks(folder: Path, storage: "BaseStorage", study_name: str) -> Locks:
    """The locks that go with a storage."""
    from optuna.storages import RDBStorage, _CachedStorage

    backend = storage._backend if isinstance(storage, _CachedStorage) else storage
    return (
        DatabaseLocks(backend.engine, study_name) if isinstance(backend, RDBStorage) else FileLocks(folder / ".locks")
    )


def _journal(folder: Path) -> "BaseStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = folder / JOURNAL
    num_lines = path.read_bytes().count(b"\n") if path.is_file() else 0
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=cast("Any", _JournalLock(path))))
        num_read = storage._replay_result.log_number_read
        if num_read < num_lines:  # Optuna passes over a last line that it cannot read, until there are more
            raise ValueError(f"line {num_read + 1}")
        return storage
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"{path} is damaged and cannot be read ({error}): remove the lines from there on, or choose another "
            "hydra.sweeper.study_name=NAME."
        ) from error


class _JournalLock:
    """Held while the journal is written.

    Optuna's own locks outlive a process that is killed in the meantime, and stop all others for half a minute. Nor is
    the line mended that it was writing, and what is appended to half a line makes the journal unreadable.
    """

    def __init__(self, path: Path) -> None:
        (path.parent / ".locks").mkdir(parents=True, exist_ok=True)
        self._path, self._file, self._thread = path, FileLock(path.parent / ".locks" / "journal"), threading.Lock()

    def acquire(self) -> bool:
        self._thread.acquire()
        try:
            self._file.acquire()
            _cut_half_line(self._path)
        except BaseException:  # a signal, for example: what is recorded because of it needs the lock
            self.release()
            raise
        return True

    def release(self) -> None:
        self._file.release()
        self._thread.release()


def _cut_half_line(path: Path) -> None:
    """Remove what follows the last newline."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            content = path.read_bytes()
            file.truncate(content.rfind(b"\n") + 1)
