"""Images in a zip archive, read in place by any number of threads at once.

The directory is zipfile's to read; the contents are read here, because zipfile inflates bzip2 and LZMA without bound,
cuts off what exceeds the declared size without a word, and hands all threads through one lock.
"""

import bz2
import io
import lzma
import os
import stat
import struct
import weakref
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landuse.data.judge import ARCHIVE_ERRORS, MAX_ENTRIES, MAX_NAME, REPACK, Judge, Wanted, refusal

MAX_DIRECTORY_BYTES = 1 << 30  # held in memory while it is read; MAX_ENTRIES of 500 bytes
DIRECTORY_ENTRY = b"PK\1\2"
LOCAL_HEADER = struct.Struct("<4s2xH18xHH")  # signature, flags, lengths of name and extra field; APPNOTE 4.3.7
ENCRYPTED, PATCHED, STRONGLY_ENCRYPTED, UTF_8 = 0x1, 0x20, 0x40, 0x800  # flags; APPNOTE 4.4.4
UNIX_SYSTEMS = (3, 19)  # Unix and macOS as makers of an entry: its attributes hold what stat() said
METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 97: "WavPack", 98: "PPMd", 99: "AES encryption"}
LZMA_MEMORY = 256 << 20  # bytes for the dictionary; the tightest preset of the xz tools takes 64 MB


class ZipArchive:
    """Lists and judges a zip archive when it is made; then reads its images."""

    is_stream = False

    def __init__(self, path: Path, wanted: Wanted) -> None:
        """
        Raises:
            UserError: an entry is refused.
            ARCHIVE_ERRORS: the archive is damaged.
        """
        self._path = path
        self._open()
        judge = Judge(str(path), path.stat().st_size)
        with zipfile.ZipFile(_Directory(path)) as directory:
            infos, end = directory.infolist(), directory.start_dir
        self._entries, self.others = self._judged(infos, judge, wanted)
        _refuse_overlaps(infos, end, judge)
        self.names = sorted(self._entries, key=lambda name: self._entries[name].header_offset)

    def _open(self) -> None:
        self._file = self._path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, name: str) -> bytes:
        """The content of an image, whole and of the declared size and checksum.

        Raises:
            UserError: there is more of it than declared.
            ARCHIVE_ERRORS: it is damaged.
        """
        return self._content(self._entries[name])

    def _judged(
        self, infos: list[zipfile.ZipInfo], judge: Judge, wanted: Wanted
    ) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
        files: dict[str, zipfile.ZipInfo] = {}
        links: dict[str, str] = {}
        for info in infos:
            raw = info.orig_filename  # zipfile cuts the other one at a NUL byte
            name = judge.name(raw)
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system in UNIX_SYSTEMS else 0
            if raw.endswith("/") or kind == stat.S_IFDIR:
                continue
            if (name in files or name in links) and wanted(name):
                raise judge.refuse(raw, "is there twice, and which one is meant is not known", REPACK)
            if kind == stat.S_IFLNK:
                links[name] = judge.target(raw, self._link(info, judge), name.rpartition("/")[0])
            elif kind in (0, stat.S_IFREG):
                files[name] = info
            else:
                raise judge.refuse(raw, "is a device or a pipe and no file")
        entries = {name: info for name, info in files.items() if wanted(name)}
        entries |= judge.follow(links, files, wanted)
        total = 0
        for name, info in entries.items():
            _judge_content(name, info, judge)
            total += info.file_size
            judge.total(name, total)
        return entries, [name for name in files if name not in entries][:3]

    def _link(self, info: zipfile.ZipInfo, judge: Judge) -> str:
        """The target of a symbolic link, which is the content of its entry."""
        name = info.orig_filename
        _judge_content(name, info, judge)
        if max(info.file_size, info.compress_size) > MAX_NAME:
            raise judge.refuse(name, f"is a link to a name of {info.file_size:,} bytes")
        try:
            return self._content(info).decode("utf-8", "surrogateescape")
        except ARCHIVE_ERRORS as error:
            raise judge.refuse(name, f"is a link that cannot be read ({error})", "Get the archive anew.") from error

    def _content(self, info: zipfile.ZipInfo) -> bytes:
        descriptor, start = self._file.fileno(), info.header_offset
        header = os.pread(descriptor, LOCAL_HEADER.size, start)
        if len(header) < LOCAL_HEADER.size:
            raise zipfile.BadZipFile("its header is beyond the end of the file")
        signature, flags, name_length, extra_length = LOCAL_HEADER.unpack(header)
        name = os.pread(descriptor, name_length, start + LOCAL_HEADER.size)
        if signature != b"PK\3\4" or name.decode("utf-8" if flags & UTF_8 else "cp437") != info.orig_filename:
            raise zipfile.BadZipFile("its header and the archive's directory differ")
        packed = os.pread(descriptor, info.compress_size, start + LOCAL_HEADER.size + name_length + extra_length)
        if len(packed) != info.compress_size:
            raise zipfile.BadZipFile("it goes on beyond the end of the file")
        content = UNPACK[info.compress_type](packed, info.file_size + 1)
        if len(content) > info.file_size:
            problem = f"claims {info.file_size:,} bytes and unpacks to more"
            raise refusal(str(self._path), info.orig_filename, problem, "Get the archive from a source that you trust.")
        if len(content) < info.file_size or zlib.crc32(content) != info.CRC:
            raise zipfile.BadZipFile("its checksum is wrong")
        return content


class _Directory(io.FileIO):
    """The archive while zipfile reads the directory; zipfile makes objects of all entries, however many there are."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory takes {size:,} bytes, of {MAX_DIRECTORY_BYTES:,} at most")
        content = super().read(size) or b""
        if (count := content.count(DIRECTORY_ENTRY)) > MAX_ENTRIES:
            raise zipfile.BadZipFile(f"it has {count:,} entries, of {MAX_ENTRIES:,} at most")
        return content


def _judge_content(name: str, info: zipfile.ZipInfo, judge: Judge) -> None:
    if info.flag_bits & (ENCRYPTED | STRONGLY_ENCRYPTED):
        raise judge.refuse(name, "is encrypted", "Pack the images anew without a password.")
    if info.compress_type not in UNPACK or info.flag_bits & PATCHED:
        method = METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise judge.refuse(name, f"is packed by {method}, which is not supported", "Pack the images anew by Deflate.")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise judge.refuse(name, f"claims {info.file_size:,} bytes and stores {info.compress_size:,}")
    judge.content(name, info.file_size, info.compress_size)


def _refuse_overlaps(infos: list[zipfile.ZipInfo], end: int, judge: Judge) -> None:
    """Entries that share bytes are what a bomb is made of that stays below every ratio (Fifield 2019).

    Recent releases of Python look as well, but only when an entry is opened, and not all that we run on.
    """
    ordered = sorted(infos, key=lambda info: info.header_offset)
    for info, following in zip(ordered, [*(info.header_offset for info in ordered[1:]), end], strict=True):
        smallest = LOCAL_HEADER.size + len(info.orig_filename) + info.compress_size
        if info.header_offset < 0 or info.header_offset + smallest > following:
            raise judge.refuse(info.orig_filename, "overlaps with the entry or the directory behind it")


def _inflate(packed: bytes, limit: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)


def _unpack_lzma(packed: bytes, limit: int) -> bytes:
    """Rearranged into what the lzma module takes: APPNOTE 5.8.8 puts version and length before the properties."""
    (length,) = struct.unpack("<2xH", packed[:4])
    stream = packed[4 : 4 + length] + b"\xff" * 8 + packed[4 + length :]  # the size: unknown
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, LZMA_MEMORY).decompress(stream, limit)


# By method: the first ``limit`` bytes of what a content unpacks to.
UNPACK: dict[int, Callable[[bytes, int], bytes]] = {
    zipfile.ZIP_STORED: lambda packed, limit: packed,
    zipfile.ZIP_DEFLATED: _inflate,
    zipfile.ZIP_BZIP2: lambda packed, limit: bz2.BZ2Decompressor().decompress(packed, limit),
    zipfile.ZIP_LZMA: _unpack_lzma,
}
