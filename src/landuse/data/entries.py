"""Opening an archive: what it is, and its images by name. Zip and tar look the same from here on."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path
from typing import Protocol

from landuse.data.judge import ARCHIVE_ERRORS, Wanted
from landuse.data.tars import Opener, TarArchive
from landuse.data.zips import ZipArchive
from landuse.errors import UserError

DECOMPRESSORS: dict[bytes, Opener] = {  # by how a file begins
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x5d\0\0": lzma.LZMAFile,  # the older .lzma
}
OTHERS = {  # what is mistaken for an archive that can be read
    b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive", b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
    b"\x89HDF": "an HDF5 file", b"<!doctype": "a web page", b"<html": "a web page", b"<?xml": "an XML text",
    b"version https://git-lfs": "a pointer of Git LFS in place of the file", b"{": "a JSON text",
}  # fmt: skip


class Archive(Protocol):
    """A judged archive. Threads may share it; pickling leaves its open file behind and opens it anew."""

    names: list[str]  # paths of the images below the archive's root, in the order in which they are best read
    others: list[str]  # up to three paths of other files
    is_stream: bool  # going back in it is dear: it has to be unpacked from its start again

    def read(self, name: str) -> bytes:
        """The file of an image.

        Raises:
            UserError: it is not what the archive says it is, and nothing of the archive should be used.
            ARCHIVE_ERRORS: it is damaged.
        """
        ...


def open_archive(path: Path, wanted: Wanted) -> Archive:
    """List and judge the zip or tar archive ``path``; no content is read before every entry has been found harmless.

    Args:
        wanted: tells by its path whether a file is an image. All entries are judged by name, and these by size too.

    Raises:
        UserError: an entry is refused, which it names, or this is no archive or a damaged one.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
        for start, decompress in DECOMPRESSORS.items():
            if head.startswith(start):
                return TarArchive(path, wanted, decompress)
        if head[257:262] != b"ustar" and zipfile.is_zipfile(
            path
        ):  # a tar may end with a zip and would be taken for one
            return ZipArchive(path, wanted)
        return TarArchive(path, wanted)
    except ARCHIVE_ERRORS as error:
        cure = "Give a whole zip or tar (also .tar.gz, .tar.bz2, .tar.xz)."
        raise UserError(f"{path} cannot be read as a zip or tar archive: {_diagnosis(head, error)}. {cure}") from error


def _diagnosis(head: bytes, error: Exception) -> str:
    if not head:
        return "it is empty"
    for start, what in OTHERS.items():
        if head.lstrip().lower().startswith(start.lower()):
            return f"it is {what}"
    if head.startswith(b"PK\3\4") and not isinstance(error, zipfile.BadZipFile):
        return "it is a zip archive whose end with the directory is missing"
    return str(error)
