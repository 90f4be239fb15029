"""A folder of results and its copy in a bucket: put back, copied pass by pass, and what did not arrive named."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from landuse.cloud.bucket import Bucket, UnreachableError
from landuse.errors import FailureError, UserError, printable

GOES_ON_FROM = "last.pt"
FILES_IN_VAIN = 3  # of a pass
Signature = tuple[int, int, int]  # inode, size, time of change in ns


def tell(text: str) -> None:
    """To people: on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


class CopyError(FailureError):
    """Files that did not arrive, and why."""

    def __init__(self, failed: dict[str, Exception]) -> None:
        reasons = [f"{name}: {said(error)}" for name, error in list(failed.items())[:3]]
        super().__init__(" ".join(reasons) + (f" And {len(failed) - 3} more." if len(failed) > 3 else ""))


def said(error: Exception) -> str:
    """A sentence of ours, and the class before any other."""
    return str(error) if isinstance(error, FailureError | UserError) else f"{type(error).__name__}: {error}"


class Copier:
    """A folder and its copy in a bucket.

    Args:
        folder: of the results; made where missing.
        bucket: where the copy is.
    """

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.folder, self.bucket = folder, bucket
        self._copied: dict[str, Signature] = {}
        self._named: set[str] = set()  # in a warning

    def restore(self) -> int:
        """Fetch what the bucket has and the folder has not; the number of files.

        Raises:
            FailureError: not all could be had, or written.
        """
        names = [name for name in self.bucket.sizes() if name and not name.endswith("/")]
        return sum(self._put_back(name) for name in names)

    def _put_back(self, name: str) -> bool:
        try:
            path = self.folder / name
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise FailureError(f"{self.bucket.url}/{name} would be written outside of {self.folder}: remove it.")
            if path.exists():
                return False
            self.bucket.fetch(name, path)
            self._copied[name] = _signature(path.stat())
        except OSError as error:  # a full disk, a name that is too long, or a file where a folder is to be
            raise FailureError(
                f"{self.bucket.url}/{name} cannot be put back into {self.folder} ({error.strerror or error})."
            ) from error
        except ValueError as error:
            raise FailureError(f"{self.bucket.url}/{name} has a name that no file can have: remove it.") from error
        return True

    def copy(self) -> None:
        """Write what is new or has changed to the bucket. A file that it refuses is no hindrance to the others.

        Where one did not arrive for a reason that may pass, ``last.pt`` waits for the next pass, lest it be newer.

        Raises:
            CopyError: not all arrived; what did is not written again.
            UserError: the login is refused for good.
        """
        failed: dict[str, Exception] = {}
        patience = self.bucket.patience_s
        try:
            with ExitStack() as opened:
                changed = self.waiting()
                last = {}
                for name in [name for name in changed if Path(name).name == GOES_ON_FROM]:
                    with _noting(failed, name), contextlib.suppress(FileNotFoundError):  # removed or renamed since
                        last[name] = opened.enter_context((self.folder / name).open("rb"))
                for name in changed:
                    if Path(name).name != GOES_ON_FROM:
                        absent = contextlib.suppress(FileNotFoundError)
                        with _noting(failed, name), absent, (self.folder / name).open("rb") as file:
                            self._store(name, file)
                        self._lose_patience(failed)
                for name, file in last.items():
                    if not any(isinstance(error, UnreachableError) for error in failed.values()):
                        with _noting(failed, name):
                            self._store(name, file)
        finally:
            self.bucket.patience_s = patience
        if failed:
            raise CopyError(failed)

    def _lose_patience(self, failed: dict[str, Exception]) -> None:
        """Once is enough to learn that nobody answers, and after the third file the pass ends."""
        unreachable = [error for error in failed.values() if isinstance(error, UnreachableError)]
        if unreachable:
            self.bucket.patience_s = 0.0
        if len(unreachable) >= FILES_IN_VAIN:
            raise CopyError(failed)

    def waiting(self) -> list[str]:
        """What has not arrived as it is now."""
        found = []
        for name, path in self._files():
            try:
                is_known = self._copied.get(name) == _signature(path.stat())
            except FileNotFoundError:  # removed or renamed since
                continue
            except OSError:  # copying will tell
                is_known = False
            if not is_known:
                found.append(name)
        return found

    def _store(self, name: str, file: BinaryIO) -> None:
        before = _signature(os.fstat(file.fileno()))
        self.bucket.store(file, name)
        self._copied[name] = before

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Regular files by their name in the bucket; no locks, and nothing that is being written aside."""
        for parent, _, names in os.walk(self.folder):
            for name in sorted(names):
                path = Path(parent, name)
                is_passing = name == ".lock" or (name.startswith(".") and name.endswith(".tmp"))
                if not is_passing and _is_ours(path) and self._can_be_named(path):
                    yield path.relative_to(self.folder).as_posix(), path

    def _can_be_named(self, path: Path) -> bool:
        name = str(path.relative_to(self.folder))
        try:
            name.encode()
        except UnicodeEncodeError:
            if name not in self._named:
                self._named.add(name)
                tell(f"warning: {name} is not copied: its name is not UTF-8, as that of an object must be.")
            return False
        return True


@contextlib.contextmanager
def _noting(failed: dict[str, Exception], name: str) -> Iterator[None]:
    """What goes wrong with one file, noted. A login that is refused for good goes wrong with every file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        failed[name] = error


def _is_ours(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink()
    except OSError:  # copying will tell
        return True


def _signature(stat: os.stat_result) -> Signature:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
