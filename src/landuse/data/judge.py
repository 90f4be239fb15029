"""What an archive may hold: the rules that zip and tar share. What breaks one is refused by the name of its entry.

Archives are read in place, so no name in them can reach a file of this machine. Names that would, if another program
unpacked them, are refused all the same: whoever made them meant harm or made a mistake, and neither is to train on.
"""

import bisect
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from landuse.errors import UserError

# What zipfile, tarfile and their decompressors raise on damaged or exotic archives; ValueError: of names and numbers.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError,
    OverflowError, RuntimeError, NotImplementedError,
)  # fmt: skip
MAX_ENTRIES = 2_000_000  # the largest sets of scenes have a million images; a listing takes up to 1 kB of memory each
MAX_NAME = 4096  # characters; what file systems take
MAX_NAMES = 512 << 20  # characters of all names together, which are held in memory
MAX_ENTRY_BYTES = 1 << 30  # of one image, packed or not, held in memory; Pillow refuses pictures from 179 Mpx on anyway
MAX_TOTAL_BYTES = 1 << 40  # of everything unpacked, which takes hours; BigEarthNet, among the largest, has 0.12 TB
MAX_RATIO = 200  # unpacked to packed bytes: 1.5 to 5 for TIFFs of photographs, 30 if mostly blank; 1,000 for bombs
# Up to here anything may be packed as tightly as it likes: images of one colour and blank masks are honest bombs.
ENTRY_FLOOR = 64 << 20  # bytes of one image; a picture of 4096 x 4096 has 48 MB
TOTAL_FLOOR = 1 << 30  # bytes of the whole archive
MAX_HOPS = 40  # links to links to ...; as Linux has it
ABSOLUTE = r"/|\\|[A-Za-z]:"  # on Unix, on Windows (also \\server), and with a drive
SHOWN = 120  # characters of a name in a message

DISTRUST = "Get the archive from a source that you trust, or have it packed anew without that."
REPACK = "Pack the images anew, or give them as data=folder data.root=PATH."

Entry = TypeVar("Entry")  # what a format knows of a file
Wanted = Callable[[str], bool]  # whether a file of this path is an image to be read; the others are only listed


def shown(name: str) -> str:
    """A name for a message: quoted, control characters escaped, the middle of a long one left out."""
    if len(name) > SHOWN:
        name = f"{name[: SHOWN // 2]}...{name[-SHOWN // 2 :]}"
    return repr(name)


def refusal(origin: str, name: str, problem: str, cure: str) -> UserError:
    """The error that refuses a whole archive for one of its entries."""
    return UserError(f"{origin}: the entry {shown(name)} {problem}; nothing of the archive is used. {cure}")


class Judge:
    """Sees every entry of one archive, in order, before any of them is read."""

    def __init__(self, origin: str, packed_bytes: int) -> None:
        """
        Args:
            origin: names the archive in errors.
            packed_bytes: size of the archive.
        """
        self.origin, self._packed_bytes = origin, packed_bytes
        self._count = self._characters = 0

    def refuse(self, name: str, problem: str, cure: str = DISTRUST) -> UserError:
        """The error to raise for an entry."""
        return refusal(self.origin, name, problem, cure)

    def name(self, raw: str) -> str:
        """The path of an entry below the archive's root, without "." and double slashes; "" is the root itself.

        Raises:
            UserError: the name leads out of the archive or is none, or there are too many.
        """
        self._count += 1
        self._characters += len(raw)
        if self._count > MAX_ENTRIES:
            raise self.refuse(raw, f"is one more than the {MAX_ENTRIES:,} that an archive may have", REPACK)
        if len(raw) > MAX_NAME or self._characters > MAX_NAMES:
            raise self.refuse(raw, f"has a name of {len(raw):,} characters, which is too long")
        if "\0" in raw:
            raise self.refuse(raw, "has a NUL byte in its name")
        if re.match(ABSOLUTE, raw):
            raise self.refuse(raw, "has an absolute path")
        if "\\" in raw:
            raise self.refuse(raw, "has a backslash in its name, which is a separator to some programs", REPACK)
        parts = raw.split("/")
        if ".." in parts:
            raise self.refuse(raw, "leads out of the archive ('..')")
        return "/".join(part for part in parts if part not in ("", "."))

    def content(self, name: str, size: int, packed: int) -> None:
        """Whether one image may be read.

        Args:
            size: bytes of its file.
            packed: bytes that these take in the archive; what is not packed by itself says ``size``.

        Raises:
            UserError: it would take too much memory.
        """
        if max(size, packed) > MAX_ENTRY_BYTES:
            limit = f"more than the {MAX_ENTRY_BYTES:,} that an image may have"
            raise self.refuse(name, f"claims {max(size, packed):,} bytes, {limit}", REPACK)
        if size > ENTRY_FLOOR and size > MAX_RATIO * packed:
            raise self.refuse(name, f"unpacks {packed:,} bytes to {size:,} (more than {MAX_RATIO} times as many)")

    def total(self, name: str, unpacked: int) -> None:
        """Whether the archive up to and with this entry, ``unpacked`` bytes, is not too much.

        Raises:
            UserError: it would take too much time.
        """
        if unpacked > MAX_TOTAL_BYTES:
            raise self.refuse(name, f"brings the archive to {unpacked:,} bytes, of {MAX_TOTAL_BYTES:,} at most", REPACK)
        if unpacked > TOTAL_FLOOR and unpacked > MAX_RATIO * self._packed_bytes:
            grown = f"unpacks the archive of {self._packed_bytes:,} bytes to {unpacked:,}"
            raise self.refuse(name, f"{grown} (more than {MAX_RATIO} times as many)")

    def target(self, name: str, target: str, base: str) -> str:
        """The path that a link names, by its text alone: nothing is followed on this machine.

        Args:
            base: the folder that the target is relative to; "" is the root.

        Raises:
            UserError: it leads out of the archive.
        """
        parts = base.split("/") if base else []
        outside = "\0" in target or re.match(ABSOLUTE, target) is not None
        for part in target.split("/"):
            outside = outside or (part == ".." and not parts)
            if part == ".." and parts:
                parts.pop()
            elif part not in ("", ".", ".."):
                parts.append(part)
        if outside:
            raise self.refuse(name, f"is a link out of the archive, to {shown(target)}")
        return "/".join(parts)

    def follow(self, links: Mapping[str, str], files: Mapping[str, Entry], wanted: Wanted) -> dict[str, Entry]:
        """What the wanted ones among ``links`` lead to; a link to a folder is passed over, as its files have names.

        Raises:
            UserError: a link leads nowhere or in a circle.
        """
        found: dict[str, Entry] = {}
        names = sorted(files) if links else []
        for name, target in links.items():
            for _ in range(MAX_HOPS):
                if target not in links:
                    break
                target = links[target]
            else:
                raise self.refuse(name, f"is a link in a circle, or through more than {MAX_HOPS} links")
            if not wanted(name):
                continue
            at = bisect.bisect_left(names, f"{target}/")
            if target in files:
                found[name] = files[target]
            elif at == len(names) or not names[at].startswith(f"{target}/"):
                raise self.refuse(name, f"is a link to {shown(target)}, which the archive does not hold", REPACK)
        return found
