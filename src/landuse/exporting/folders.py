"""Exported folders: built under a temporary name, then renamed, so that what carries its name is complete."""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from landuse.errors import UserError
from landuse.files import settle

log = logging.getLogger(__name__)

TRITON = "triton"  # the folder of the model repository, below export/
NEW, OLD = ".new", ".old"  # ends of temporary names, which begin with a dot


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold ``<run>/export`` for this process, made where it is missing; while another process holds it, wait.

    What a process left that was killed in it is put right: of a folder under way nothing stays, and one that was about
    to be replaced has its name again.

    Raises:
        UserError: the folder leads out of the run folder, or is none.
    """
    from filelock import FileLock, Timeout

    for own in (folder, folder / TRITON):
        if own.is_symlink() or (own.exists() and not own.is_dir()):
            raise UserError(f"{own} leads out of the run folder or is no folder: remove it, it is made anew.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    if path.is_symlink():  # no lock of ours
        path.unlink()
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is exporting into %s; waiting until it is done", folder)
        lock.acquire()
    try:
        _recover(folder)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def building(folder: Path, name: str) -> Iterator[Path]:
    """An empty folder below ``folder`` for what :func:`publish` then gives its name; removed when the block ends."""
    new = folder / f".{name}{NEW}"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def publish(new: Path, target: Path) -> None:
    """Give a complete folder its name; an older one of that name is moved aside before and then removed.

    There is no instant at which the name belongs to half a folder.
    """
    settle(new)
    old = target.with_name(f".{target.name}{OLD}")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(exist_ok=True)
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _recover(folder: Path) -> None:
    for new in folder.glob(f".*{NEW}"):
        shutil.rmtree(new, ignore_errors=True)
    for old in folder.glob(f".*{OLD}"):
        target = old.with_name(old.name.removeprefix(".").removesuffix(OLD))
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
