"""Archives made for tests, good and bad."""

import io
import random
import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landuse.data.archive import VerifiedArchive
from landuse.data.entries import Archive, open_archive
from landuse.data.sources import ArchiveSource
from landuse.errors import UserError

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
NOISE = random.Random(0).randbytes(3000)
FILES = {"a/1.png": b"one" + NOISE, "b/2.png": b"two" * 500, "a/empty.png": b"", "read me.txt": b"text"}
Members = Iterable[tuple[str | tarfile.TarInfo, bytes]]


def zipped(
    path: Path, members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: Members, compression: str = "", tar_format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, f"w:{compression}", format=tar_format) as archive:  # type: ignore[call-overload]
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def unix(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def opened(path: Path) -> Archive:
    return open_archive(path, lambda name: name.endswith(".png"))


def patched(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


def refused(path: Path, name: str, reason: str) -> str:
    """The message with which an archive is refused: it names the entry and says why."""
    with pytest.raises(UserError) as caught:
        opened(path)
    message = str(caught.value)
    assert str(path) in message and name in message and re.search(reason, message), message
    assert "nothing of the archive is used" in message and "\n" not in message and "\0" not in message
    return message


def set_flag(path: Path, flag: int) -> Path:
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(signature), bytes(content)):
            content[found.start() + offset] |= flag
    path.write_bytes(content)
    return path


def png(colour: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(colour).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


IMAGES = {f"{top}/{name}/{i}.png": png(i) for i in range(40) for name in ("a", "b") for top in ("x/train", "x/test")}


def source(path: Path, folder: str | None = "x/train") -> ArchiveSource:
    return ArchiveSource(VerifiedArchive(path, "sha256:" + "0" * 64), None, folder)
