"""Exported folders: built under a temporary name, then renamed, so that what carries its name is complete."""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from landuse.config.validate_service import VARIANTS
from landuse.errors import UserError
from landuse.files import rename, settle

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
    remove(new)
    new.mkdir()
    try:
        yield new
    finally:
        remove(new)


def publish(new: Path, target: Path) -> None:
    """Give a complete folder its name; an older one of that name is moved aside before and then removed.

    There is no instant at which the name belongs to half a folder. The older one waits beside the new one, not beside
    its name: programs take all that is in a model repository for models.
    """
    settle(new)
    old = new.with_name(new.name.removesuffix(NEW) + OLD)
    remove(old)
    target.parent.mkdir(exist_ok=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        rename(target, old)
    rename(new, target)
    remove(old)


def remove(path: Path) -> None:
    """Remove what has this name, if anything has: in a stranger's folder it may be a link, which is not followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _recover(folder: Path) -> None:
    for new in folder.glob(f".*{NEW}"):
        remove(new)
    for old in folder.glob(f".*{OLD}"):
        name = old.name.removeprefix(".").removesuffix(OLD)
        is_of_triton = name.startswith(f"{TRITON}-")
        target = folder / TRITON / name.removeprefix(f"{TRITON}-") if is_of_triton else folder / name
        known = is_of_triton or name in VARIANTS
        if known and old.is_dir() and not old.is_symlink() and not target.exists():
            target.parent.mkdir(exist_ok=True)
            rename(old, target)
        else:
            remove(old)
