"""Images in a tar archive, compressed or not, read in place.

tarfile parses the headers and nothing else: it is handed a file that moves forward only and lets it read no more of a
header than headers have, and what it would take for the end of the archive without a word is an error here.
"""

import io
import os
import tarfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from landuse.data.judge import ARCHIVE_ERRORS, REPACK, Judge, Wanted, shown

MAX_HEADER_BYTES = 256 << 10  # of one entry with its long name and extended attributes, which are held in memory
Place = tuple[int, int]  # where a content begins in the unpacked archive, and its length, in bytes
Opener = Callable[[Path], io.BufferedIOBase]


class TarArchive:
    """Lists and judges a tar archive when it is made; then reads its images.

    A compressed archive is one stream: going back in it means unpacking it from its start. It unpacks twice as long as
    its images are read in the order of ``names``.
    """

    def __init__(self, path: Path, wanted: Wanted, decompress: Opener | None = None) -> None:
        """
        Args:
            decompress: opens a compressed archive; None: it is not compressed.

        Raises:
            UserError: an entry is refused, or the archive is damaged behind one.
            ARCHIVE_ERRORS: it is damaged from the start.
        """
        self._path, self._decompress = path, decompress
        self.is_stream = decompress is not None
        self._open()
        judge = Judge(str(path), path.stat().st_size)
        self._entries, self.others = self._judged(judge, wanted)
        self.names = sorted(self._entries, key=self._entries.__getitem__)

    def _open(self) -> None:
        self._file = self._path.open("rb") if self._decompress is None else self._decompress(self._path)
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._latest: tuple[Place, bytes] = ((-1, 0), b"")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_file", "_lock", "_latest")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, name: str) -> bytes:
        """The content of an image.

        Raises:
            ARCHIVE_ERRORS: it is damaged.
        """
        place = self._entries[name]
        content = self._next(place) if self.is_stream else os.pread(self._file.fileno(), place[1], place[0])
        if len(content) != place[1]:
            raise tarfile.ReadError("it goes on beyond the end of the archive")
        return content

    def _next(self, place: Place) -> bytes:
        with self._lock:
            if self._latest[0] != place:  # links to one file follow each other: no going back for them
                self._file.seek(place[0])
                self._latest = place, self._file.read(place[1])
            return self._latest[1]

    def _judged(self, judge: Judge, wanted: Wanted) -> tuple[dict[str, Place], list[str]]:
        files: dict[str, Place] = {}
        links: dict[str, str] = {}
        for member in self._members(judge):
            name, raw = judge.name(member.name), member.name
            if member.isdir():
                continue
            if (name in files or name in links) and wanted(name):
                raise judge.refuse(raw, "is there twice, and which one is meant is not known", REPACK)
            if member.issym():
                links[name] = judge.target(raw, member.linkname, name.rpartition("/")[0])
            elif member.islnk():
                target = judge.target(raw, member.linkname, "")
                if target in files:  # always an earlier entry; that it may have a namesake later is no matter
                    files[name] = files[target]
                elif wanted(name):
                    raise judge.refuse(raw, f"is a link to {shown(target)}, which no earlier entry is called", REPACK)
            elif member.isdev():
                raise judge.refuse(raw, "is a device or a pipe and no file")
            else:
                self._judge_file(member, judge, wanted(name))
                files[name] = (member.offset_data, member.size)
        entries = {name: place for name, place in files.items() if wanted(name)}
        entries |= judge.follow(links, files, wanted)
        for name, place in entries.items():
            judge.content(name, place[1], place[1])
        return entries, [name for name in files if name not in entries][:3]

    def _judge_file(self, member: tarfile.TarInfo, judge: Judge, is_wanted: bool) -> None:
        end = member.offset_data + member.size
        if member.size < 0:
            raise judge.refuse(member.name, f"claims {member.size:,} bytes")
        if is_wanted:  # before a compressed archive is unpacked that far
            judge.content(member.name, member.size, member.size)
            if member.issparse() or not member.isreg():
                raise judge.refuse(member.name, "is sparse or of an unknown kind", REPACK)
        if self.is_stream:
            judge.total(member.name, end)  # with all headers and gaps so far, as these are unpacked as well

    def _members(self, judge: Judge) -> Iterator[tarfile.TarInfo]:
        latest = None
        headers: Any = _Headers(self._file)  # has of a file what a reading tarfile uses
        try:
            tar = tarfile.TarFile(fileobj=headers, tarinfo=_Member, encoding="utf-8", errors="surrogateescape")
            while (member := tar.next()) is not None:
                vars(tar)["members"].clear()  # it would keep them all, each with its attributes
                headers.left, latest = MAX_HEADER_BYTES, member.name
                yield member
        except ARCHIVE_ERRORS as error:
            if latest is None:
                raise
            problem = f"is cut off, or what follows it is damaged ({error})"
            raise judge.refuse(latest, problem, "Get the archive anew.") from error


class _Headers:
    """The unpacked archive as tarfile is let at it."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file, self.left = file, MAX_HEADER_BYTES

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int) -> None:
        if position < self._file.tell():  # a loop without end
            raise tarfile.ReadError("its headers point backwards")
        self._file.seek(position)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header is longer than {MAX_HEADER_BYTES:,} bytes")
        self.left -= size
        return self._file.read(size)


class _Member(tarfile.TarInfo):
    """Only two zero blocks end an archive: tarfile takes a damaged or missing header for its end as well."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error
