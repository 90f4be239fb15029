"""What has been received of a file so far, and to which content of which address it belongs.

<file>.part          its first bytes
<file>.part.json     what the server said of the whole, so that the rest is asked for only of the same content
"""

import contextlib
import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from landuse.errors import UserError
from landuse.files import rename, write_json
from landuse.progress import size as shown_size


@dataclass(frozen=True)
class Whole:
    """The content that a partial file is the beginning of."""

    address: str  # digest of the address
    validator: str  # the server's ETag, or else its Last-Modified: another content has another one
    length: int  # bytes


class Partial:
    """The beginning of ``target``, kept beside it until it is whole."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes received."""
        try:
            return self.path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0

    @property
    def whole(self) -> Whole | None:
        """What the bytes belong to; None where there are none, or none that another request could go on from."""
        try:
            whole = Whole(**json.loads(self._note.read_text(encoding="utf-8")))
            return whole if 0 < self.size <= whole.length else None
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, whole: Whole | None) -> None:
        """Start anew, with no byte received.

        Raises:
            UserError: the folder cannot be written to.
        """
        try:
            self._note.unlink(missing_ok=True)  # first: it must never stand beside bytes of another content
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(b"")
            if whole is not None:
                write_json(self._note, vars(whole))
        except OSError as error:
            raise self.unwritable(error, None) from error

    def discard(self) -> None:
        """Remove all that was received."""
        for path in (self._note, self.path):
            with contextlib.suppress(OSError):  # also where the folder cannot be written to: nothing was put there
                path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give what is whole its final name."""
        with self.path.open("rb+") as written:
            os.fsync(written.fileno())  # without it, a power cut can leave the new name on empty content
        rename(self.path, self.target)
        self._note.unlink(missing_ok=True)

    def require_space(self, length: int) -> None:
        """Make sure that the disk has room for the rest.

        Args:
            length: bytes of the whole.

        Raises:
            UserError: it has not; what was received is removed.
        """
        folder = next(folder for folder in self.path.parents if folder.exists())
        missing, free = length - self.size, shutil.disk_usage(folder).free
        if missing > free:
            self.discard()
            raise UserError(
                f"{self.target.name} needs {missing} bytes ({shown_size(missing)}), but {free} ({shown_size(free)}) are"
                f" free in {folder}: make room there, or choose another place with data.home=PATH."
            )

    def unwritable(self, error: OSError, length: int | None) -> UserError:
        """The message for a file that could not be written; what was received is removed."""
        received = self.size
        self.discard()
        folder = self.path.parent
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return UserError(f"data.home: {folder} cannot be written to ({error.strerror}); choose another place.")
        of = f" of {length}" if length is not None else ""
        return UserError(
            f"{self.target.name} could not be written to {folder} ({error.strerror}) after {received}{of} bytes, which "
            "were removed: make room there, or choose another place with data.home=PATH."
        )
