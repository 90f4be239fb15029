"""Archives that mean harm or are broken are refused by the name of an entry, before anything of them is used."""

import contextlib
import hashlib
import io
import lzma
import pickle
import random
import re
import stat
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landuse.config.schema import ArchiveConfig, DataConfig
from landuse.data import judge, tars, zips
from landuse.data.archive import VerifiedArchive
from landuse.data.entries import Archive, open_archive
from landuse.data.judge import ARCHIVE_ERRORS
from landuse.data.pack import make
from landuse.data.scan import scan
from landuse.data.sources import ArchiveSource
from landuse.errors import UserError
from tests.conftest import Run

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


# Good archives


@pytest.mark.parametrize("method", METHODS)
def test_zip_gives_its_files(tmp_path: Path, method: int) -> None:
    archive = opened(zipped(tmp_path / "x.zip", FILES.items(), method))
    assert {name: archive.read(name) for name in archive.names} == {n: c for n, c in FILES.items() if n.endswith("g")}
    assert archive.others == ["read me.txt"] and not archive.is_stream


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_tar_gives_its_files_in_any_order(tmp_path: Path, compression: str, tar_format: int) -> None:
    files = {**FILES, "b/" + "long" * 23 + ".png": b"long"}
    archive = opened(tarred(tmp_path / "x", files.items(), compression, tar_format))
    wanted = {name: content for name, content in files.items() if name.endswith("g")}
    assert archive.names == list(wanted)  # the archive's own order
    assert {name: archive.read(name) for name in reversed(archive.names)} == wanted
    copy = pickle.loads(pickle.dumps(archive))
    assert {name: copy.read(name) for name in copy.names} == wanted
    assert archive.is_stream == bool(compression)


def test_names_are_brought_to_one_form(tmp_path: Path) -> None:
    """`tar czf x.tgz .` begins every name with "./"."""
    members: Members = [special("./", tarfile.DIRTYPE), ("./a/1.png", b"1"), ("b//2.png", b"2")]
    assert opened(tarred(tmp_path / "x.tgz", members, "gz")).names == ["a/1.png", "b/2.png"]


def test_odd_names_are_names(tmp_path: Path) -> None:
    names = ["ä/日本.png", "a b/\t.png", "A/1.png", "a/1.png", "a/..png", "a/x..png", "\udcff/1.png"]
    assert opened(tarred(tmp_path / "x.tar", [(name, b"1") for name in names])).names == names
    assert opened(zipped(tmp_path / "x.zip", [(name, b"1") for name in names[:-1]])).names == names[:-1]


def test_zip64_and_data_in_front(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1.png", "b/2.png"):
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(NOISE)
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    assert opened(path).read("b/2.png") == NOISE


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "x.zip", [("evil.png", b"")]).read_bytes()
    assert opened(tarred(tmp_path / "x.tar", [("a/1.png", b"1"), ("labels.zip", inner)])).names == ["a/1.png"]


@pytest.mark.parametrize("compression", ["", "gz"])
def test_links_within_a_tar_are_followed(tmp_path: Path, compression: str) -> None:
    members: Members = [
        special("b/3.png", tarfile.SYMTYPE, "../store/blob"),  # in front of what it leads to
        ("a/1.png", b"one"),
        ("store/blob", b"blob"),
        special("b/1.png", tarfile.LNKTYPE, "a/1.png"),
        special("b/2.png", tarfile.LNKTYPE, "./b/1.png"),
        special("c/1.png", tarfile.SYMTYPE, "../b/3.png"),
        special("latest", tarfile.SYMTYPE, "a"),  # a folder, whose files have names of their own
        special("notes", tarfile.SYMTYPE, "nowhere"),  # no image
    ]
    archive = opened(tarred(tmp_path / "x", members, compression))
    assert {name: archive.read(name) for name in archive.names} == {
        "a/1.png": b"one", "b/1.png": b"one", "b/2.png": b"one", "b/3.png": b"blob", "c/1.png": b"blob",
    }  # fmt: skip


def test_links_within_a_zip_are_followed(tmp_path: Path) -> None:
    link = unix("b/1.png", stat.S_IFLNK | 0o777)
    archive = opened(zipped(tmp_path / "x.zip", [("a/1.png", b"one"), (link, b"../a/1.png")]))
    assert archive.read("b/1.png") == b"one"


# Names and kinds

NAMES = [
    ("../evil.png", "leads out"),
    ("a/../../evil.png", "leads out"),
    ("a/..", "leads out"),
    ("/etc/evil.png", "absolute"),
    ("//server/evil.png", "absolute"),
    ("C:/evil.png", "absolute"),
    ("C:\\evil.png", "absolute"),
    ("\\\\server\\evil.png", "absolute"),
    ("a\\..\\evil.png", "backslash"),
    ("../evil.txt", "leads out"),  # an image or not
    ("../evil/", "leads out"),
    ("../__MACOSX/.hidden", "leads out"),
    ("../\x1b[2J\n.png", "leads out"),
    ("../" + 200 * "x" + ".png", "leads out"),
]


@pytest.mark.parametrize(("name", "reason"), NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_names_that_lead_out(tmp_path: Path, kind: str, name: str, reason: str) -> None:
    members = [("a/1.png", b"1"), (name, b"2"), ("b/1.png", b"3")]
    path = tmp_path / f"x.{kind}"
    path = zipped(path, members) if kind == "zip" else tarred(path, members, kind[4:])
    message = refused(path, repr(name)[:40].rstrip("'\""), reason)
    assert len(message) < 600 and message.isprintable()
    assert list(tmp_path.iterdir()) == [path]


def test_nul_in_a_name(tmp_path: Path) -> None:
    refused(patched(zipped(tmp_path / "x.zip", [("a/N.png", b"1")]), b"a/N.png", b"a/\0.png"), r"a/\x00.png", "NUL")
    path = tarred(tmp_path / "x.tar", [(n := "a/N" + "ä" * 60 + ".png", b"1")])  # not ASCII: in an extended header
    refused(patched(path, f"path={n}".encode(), f"path={n}".replace("N", "\0").encode()), r"a/\x00", "NUL")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "x.zip", [("a/" * 3000 + "1.png", b"1")]), "a/a/a", "6,005 characters")
    refused(tarred(tmp_path / "x.tar", [("a/" * 3000 + "1.png", b"1")]), "a/a/a", "6,005 characters")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_same_name_twice(tmp_path: Path, kind: str) -> None:
    with pytest.warns(UserWarning, match="Duplicate") if kind == "zip" else contextlib.nullcontext():
        members = [("a/1.png", b"1"), ("./a//1.png", b"2"), ("a/1.png", b"3")]
        path = zipped(tmp_path / "x", members) if kind == "zip" else tarred(tmp_path / "x", members)
    refused(path, "a//1.png", "twice")


LINKS = [
    ([("b/1.png", "../../evil.png")], "b/1.png", "out of the archive"),
    ([("b/1.png", "/etc/passwd")], "b/1.png", "out of the archive"),
    ([("b/1.png", "C:\\x")], "b/1.png", "out of the archive"),
    ([("notes", "..")], "notes", "out of the archive"),  # an image or not
    ([("b/1.png", "2.png"), ("b/2.png", "3.png"), ("b/3.png", "../../evil")], "b/3.png", "out of the archive"),
    ([("b/1.png", "2.png"), ("b/2.png", "1.png")], "b/1.png", "circle"),
    ([("b/1.png", "1.png")], "b/1.png", "circle"),
    ([("b/1.png", "2.png")], "b/1.png", "does not hold"),
    ([(f"b/{i}.png", f"{i + 1}.png") for i in range(50)], "b/0.png", "circle, or through more"),
]


@pytest.mark.parametrize(("links", "name", "reason"), LINKS)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_symbolic_links_that_lead_out(
    tmp_path: Path, kind: str, links: list[tuple[str, str]], name: str, reason: str
) -> None:
    if kind == "zip":
        entries = [(unix(link, stat.S_IFLNK | 0o777), target.encode()) for link, target in links]
        path = zipped(tmp_path / "x.zip", [("a/1.png", b"1"), *entries])
    else:
        path = tarred(
            tmp_path / "x.tar", [("a/1.png", b"1"), *(special(link, tarfile.SYMTYPE, to) for link, to in links)]
        )
    refused(path, f"'{name}'", reason)


@pytest.mark.parametrize(
    ("target", "reason"),
    [("../evil", "out of"), ("/etc/passwd", "out of"), ("a/2.png", "no earlier"), ("b/1.png", "no earlier")],
)
def test_hard_links_that_lead_out(tmp_path: Path, target: str, reason: str) -> None:
    members: Members = [("a/1.png", b"1"), special("b/1.png", tarfile.LNKTYPE, target), ("a/2.png", b"2")]
    refused(tarred(tmp_path / "x.tar", members), "'b/1.png'", reason)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    refused(tarred(tmp_path / "x.tar", [("a/1.png", b"1"), special("dev", kind)]), "'dev'", "device or a pipe")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes_in_a_zip(tmp_path: Path, kind: int) -> None:
    refused(zipped(tmp_path / "x.zip", [("a/1.png", b"1"), (unix("dev", kind), b"")]), "'dev'", "device or a pipe")


# Bombs


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(f"a/{i}.png", b"") for i in range(12)]
    archives = [zipped(tmp_path / "x.zip", members), tarred(tmp_path / "x.tgz", members, "gz")]
    monkeypatch.setattr(judge, "MAX_ENTRIES", 10)
    for path in archives:
        refused(path, "a/10.png", "one more than the 10 ")
    monkeypatch.setattr(zips, "MAX_ENTRIES", 10)  # before zipfile makes an object of each
    with pytest.raises(UserError, match="has 12 entries, of 10 at most"):
        opened(archives[0])


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_entry_that_unpacks_too_well(tmp_path: Path, method: int) -> None:
    zeros = bytes(judge.ENTRY_FLOOR + 1)
    path = zipped(tmp_path / "x.zip", [("a/1.png", b"1"), ("a/bomb.png", zeros)], method)
    refused(path, "'a/bomb.png'", r"unpacks [\d,]+ bytes to 67,108,865 \(more than 200 times")


def test_an_image_of_one_colour_is_no_bomb(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4096, 4096)).save(stream, "BMP")
    path = zipped(tmp_path / "x.zip", [("a/1.png", stream.getvalue())], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 60_000
    assert opened(path).read("a/1.png") == stream.getvalue()


def test_a_zip_entry_that_claims_too_much(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("a/1.png", b"12345678" * 9)], zipfile.ZIP_DEFLATED)
    refused(patched(path, struct.pack("<I", 72), struct.pack("<I", (1 << 30) + 1)), "a/1.png", "claims 1,073,741,825")


def test_a_stored_zip_entry_of_two_sizes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("a/1.png", NOISE)])
    patched(path, struct.pack("<II", 3000, 3000), struct.pack("<II", 3000, 1000))
    refused(path, "'a/1.png'", "claims 1,000 bytes and stores 3,000")


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_zip_entry_with_more_than_it_claims(tmp_path: Path, method: int) -> None:
    """What zipfile would cut off without a word; bzip2 and LZMA it would unpack to the end first."""
    content = bytes(3_000_000)
    path = zipped(tmp_path / "x.zip", [("a/1.png", content)], method)
    checksum = struct.pack("<I", zipfile.crc32(content))
    patched(path, struct.pack("<I", 3_000_000), struct.pack("<I", 1_000))
    patched(path, checksum, struct.pack("<I", zipfile.crc32(content[:1000])))  # so that it would pass for whole
    with pytest.raises(
        UserError, match=r"x\.zip: the entry 'a/1.png' claims 1,000 bytes and unpacks to more"
    ) as caught:
        opened(path).read("a/1.png")
    assert type(caught.value) is UserError  # not one image that may be left out: nothing of it is to be trusted


def test_overlapping_zip_entries(tmp_path: Path) -> None:
    """Several names for one content, each below every ratio."""
    path = zipped(tmp_path / "x.zip", [("a/1.png", NOISE), ("a/2.png", NOISE)])
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2")
    content[second + 42 : second + 46] = struct.pack("<I", 0)  # where its local header is: where the first one's is
    path.write_bytes(content)
    refused(path, "a/1.png", "overlaps")


def test_a_zip_entry_that_reaches_into_the_directory(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("a/1.png", NOISE)])
    refused(patched(path, struct.pack("<II", 3000, 3000), struct.pack("<II", 3050, 3050)), "a/1.png", "overlaps")


def test_zips_and_tars_that_are_too_much_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(f"a/{i}.png", NOISE) for i in range(9)]
    paths = [zipped(tmp_path / "x.zip", members), tarred(tmp_path / "x.tgz", members, "gz")]
    monkeypatch.setattr(judge, "MAX_TOTAL_BYTES", 20_000)
    for path in paths:
        refused(path, "a/", "of 20,000 at most")


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_compressed_tar_that_unpacks_too_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setattr(judge, "TOTAL_FLOOR", 10 << 20)
    members = [("a/1.png", b"1"), ("video.bin", bytes(20 << 20)), ("a/2.png", b"2")]
    refused(tarred(tmp_path / "x", members, compression), "'video.bin'", "more than 200 times")


def test_a_link_that_is_no_plain_one(tmp_path: Path) -> None:
    link = unix("b/1.png", stat.S_IFLNK | 0o777)
    long = zipped(tmp_path / "x.zip", [("a/1.png", b"1"), (link, b"x/" * 3000)])
    refused(long, "'b/1.png'", "link to a name of 6,000 bytes")
    damaged = zipped(tmp_path / "x.zip", [("a/1.png", b"1"), (link, b"../a/1.png")])
    refused(patched(damaged, b"../a/1.png", b"../a/2.png"), "'b/1.png'", "link that cannot be read .*checksum")


def test_a_tar_that_claims_what_it_does_not_hold(tmp_path: Path) -> None:
    """Refused by its header: nothing is unpacked in search of the 7 GB."""
    info = tarfile.TarInfo("a/huge.png")
    info.size = 7 << 30
    for name, opener in (("x.tar", open), ("x.tar.xz", lzma.open)):
        with opener(tmp_path / name, "wb") as file:
            file.write(info.tobuf() + bytes(5000))
        refused(tmp_path / name, "'a/huge.png'", "claims 7,516,192,768 bytes")


def test_a_tar_with_endless_headers(tmp_path: Path) -> None:
    """A long name of a gigabyte would be read into memory whole."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    path = tarred(tmp_path / "x.tar", [("a/1.png", b"1")])
    path.write_bytes(path.read_bytes()[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    refused(path, "'a/1.png'", "header is longer")


def test_a_tar_that_points_backwards(tmp_path: Path) -> None:
    """A size below zero leads tarfile back to the same header, for ever in some releases of Python."""
    for size in (-1024, -512, -1):
        info = tarfile.TarInfo("a/2.png")
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = (size & ((1 << 96) - 1)).to_bytes(12, "big")
        header[148:156] = b" " * 8
        header[148:155] = b"%06o\0" % sum(header)
        path = tarred(tmp_path / "x.tar", [("a/1.png", b"1")])
        path.write_bytes(path.read_bytes()[:1024] + header + bytes(5000))
        refused(path, "a/", "claims -|damaged")


def test_sparse_members(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a/1.png")
    info.pax_headers = {"GNU.sparse.size": str(1 << 29), "GNU.sparse.map": "0,512", "GNU.sparse.numblocks": "1"}
    refused(tarred(tmp_path / "x.tar", [(info, bytes(512))]), "a/1.png", "sparse")


# Damage


@pytest.mark.parametrize("compression", ["", "gz", "xz", "bz2"])
@pytest.mark.parametrize("left", [0.3, 0.6, 0.9])
def test_truncated_tar(tmp_path: Path, compression: str, left: float) -> None:
    path = tarred(tmp_path / "x", [(f"a/{i}.png", random.Random(i).randbytes(50_000)) for i in range(20)], compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    with pytest.raises(UserError, match=r"entry 'a/\d+.png' is cut off|cannot be read as a zip or tar archive"):
        opened(path)


def test_a_tar_that_ends_between_two_entries(tmp_path: Path) -> None:
    """tarfile takes that for the end, and the rest of the images would be missed by nobody."""
    path = tarred(tmp_path / "x.tar", [("a/1.png", b"1"), ("b/1.png", b"1")], tar_format=tarfile.GNU_FORMAT)
    path.write_bytes(path.read_bytes()[:1024])
    refused(path, "'a/1.png'", "is cut off")


def test_a_damaged_header_between_two_entries(tmp_path: Path) -> None:
    path = tarred(tmp_path / "x.tar", [("a/1.png", b"1"), ("b/1.png", b"1")])
    refused(patched(path, b"b/1.png", b"b/2.png"), "'a/1.png'", "what follows it is damaged")


def test_damaged_content(tmp_path: Path) -> None:
    archive = opened(patched(zipped(tmp_path / "x.zip", FILES.items()), b"onetwo"[:3], b"eno"))
    with pytest.raises(zipfile.BadZipFile, match="checksum"):
        archive.read("a/1.png")
    assert archive.read("b/2.png") == FILES["b/2.png"]


def test_a_zip_whose_headers_differ(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("a/1.png", b"1")])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"a/1.png", b"a/2.png", 1))
    with pytest.raises(zipfile.BadZipFile, match="differ"):
        opened(path).read("a/1.png")


def set_flag(path: Path, flag: int) -> Path:
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(signature), bytes(content)):
            content[found.start() + offset] |= flag
    path.write_bytes(content)
    return path


def test_encrypted_zip(tmp_path: Path) -> None:
    for flag in (0x1, 0x40):
        refused(
            set_flag(zipped(tmp_path / "x.zip", [("a/1.png", b"1")]), flag), "'a/1.png'", "encrypted.*without a pass"
        )


def test_a_method_that_is_not_supported(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("a/1.png", b"1" * 99)], zipfile.ZIP_LZMA)
    patched(path, b"\2\0\x0e\0", b"\2\0\x09\0")  # flags and method, in both headers
    refused(path, "'a/1.png'", "packed by Deflate64, which is not supported")


def truncated_zip(path: Path) -> None:
    zipped(path, [(f"a/{i}.png", NOISE) for i in range(9)])
    path.write_bytes(path.read_bytes()[:9000])


def not_utf_8(path: Path) -> None:
    set_flag(patched(zipped(path, [("a/NN.png", b"1")]), b"a/NN", b"a/\xff\xfe"), 0)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 9] |= 8  # the names are UTF-8
    path.write_bytes(content)


OTHERS: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.write_bytes(b""), "it is empty"),
    (lambda path: path.write_bytes(b"\n<!DOCTYPE html><p>404" + b" " * 999), "it is a web page"),
    (lambda path: path.write_bytes(b"something else"), "cannot be read as a zip or tar archive"),
    (lambda path: path.write_bytes(random.Random(0).randbytes(5000)), "cannot be read as a zip or tar archive"),
    (lambda path: path.write_bytes(b"Rar!\x1a\x07" + bytes(999)), "it is a RAR archive"),
    (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(100)), "cannot be read as a zip or tar archive"),
    (lambda path: path.write_bytes(lzma.compress(b"no tar" * 999)), "cannot be read as a zip or tar archive"),
    (truncated_zip, "end with the directory is missing"),
    (not_utf_8, "cannot be read as a zip or tar archive"),
]


@pytest.mark.parametrize(("write", "reason"), OTHERS)
def test_no_archive_at_all(tmp_path: Path, write: Callable[[Path], object], reason: str) -> None:
    write(tmp_path / "x.zip")
    with pytest.raises(UserError, match=reason):
        opened(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", ["zip", "", "gz", "xz", "bz2"])
def test_whatever_is_damaged_no_other_error_comes_up(tmp_path: Path, kind: str) -> None:
    path, chance = tmp_path / "x", random.Random(1)
    members = [(f"{name}/{i}ä.png", NOISE[: 70 * i]) for i in range(5) for name in "ab"]
    good = (zipped(path, members, zipfile.ZIP_DEFLATED) if kind == "zip" else tarred(path, members, kind)).read_bytes()
    for _ in range(150):
        content = bytearray(good)
        at = chance.randrange(max(0, len(good) - 700), len(good)) if kind == "zip" else chance.randrange(len(good))
        for _ in range(chance.choice((1, 1, 4))):
            content[min(len(content) - 1, at + chance.randrange(8))] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(content if chance.random() < 0.8 else content[:at])
        with contextlib.suppress(UserError):
            archive = opened(path)
            for name in archive.names:
                with contextlib.suppress(*ARCHIVE_ERRORS):
                    archive.read(name)


# As a source, and through the door


def png(colour: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(colour).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


IMAGES = {f"{top}/{name}/{i}.png": png(i) for i in range(40) for name in ("a", "b") for top in ("x/train", "x/test")}


def source(path: Path, folder: str | None = "x/train") -> ArchiveSource:
    return ArchiveSource(VerifiedArchive(path, "sha256:" + "0" * 64), None, folder)


def test_all_formats_give_the_same_images(tmp_path: Path) -> None:
    paths = [zipped(tmp_path / "x.zip", IMAGES.items(), method) for method in METHODS[:2]]
    paths += [tarred(tmp_path / f"x.{kind}", IMAGES.items(), kind) for kind in ("", "gz", "bz2", "xz")]
    found = []
    for number, path in enumerate(paths):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(scan(source(path), 16, folder))
    for other in found[1:]:
        assert np.array_equal(found[0].images[range(80)], other.images[range(80)])
        assert other.usable == found[0].usable == list(range(80))
        assert other.findings == found[0].findings


def test_a_stream_is_unpacked_twice_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to list it, once to read it, however many threads decode."""
    members = list(IMAGES.items())
    random.Random(0).shuffle(members)
    path = tarred(tmp_path / "x.tgz", members, "gz")
    places: list[int] = []
    plain = tars.TarArchive._next

    def slow(self: tars.TarArchive, place: tars.Place) -> bytes:
        places.append(place[0])
        time.sleep(0.001 * (threading.get_ident() % 3))
        return plain(self, place)

    monkeypatch.setattr(tars.TarArchive, "_next", slow)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4))
    assert len(scan(source(path), 16, tmp_path).usable) == len(places) == 80
    assert places == sorted(places)


def test_a_folder_in_the_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", IMAGES.items())
    with pytest.raises(UserError, match=r"several places \('x/test', 'x/train'\).*data.archive.folder=x/test"):
        source(path, None)
    with pytest.raises(UserError, match=r"folder=x holds no class folders; these do: 'x/test', 'x/train'"):
        source(path, "x")
    assert source(path, "./x/train/").paths[:2] == ["a/0.png", "a/1.png"] and len(source(path).paths) == 80
    assert source(path, "x/train/").identity == source(path, "x/train").identity != source(path, "x/test").identity


def preprocess(command: Run, path: Path, *overrides: str) -> tuple[int, str]:
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    archive = [f"data.archive.url={path.as_uri()}", f"data.archive.sha256={checksum}"]
    finished = command("preprocess", "data=ucmerced", "data.home=home", "data.image_size=16", *archive, *overrides)
    return finished.status, finished.err


def test_the_door_refuses(tmp_path: Path, command: Run) -> None:
    path = tarred(tmp_path / "x.tgz", [*IMAGES.items(), ("../../evil.png", b"")], "gz")
    status, message = preprocess(command, path)
    assert status == 2 and message.startswith("error: ") and message.count("\n") == 1 and "Traceback" not in message
    assert f"{path}: the entry '../../evil.png' leads out of the archive" in message
    assert [found.name for found in tmp_path.iterdir()] == ["x.tgz"]


def test_the_door_refuses_what_shows_late(tmp_path: Path, command: Run) -> None:
    """An entry that lies about its size is found when it is read: no pack comes of the others."""
    bomb = bytes(3_000_000)
    path = zipped(tmp_path / "x.zip", [*IMAGES.items(), ("x/train/a/bomb.png", bomb)], zipfile.ZIP_DEFLATED)
    patched(path, struct.pack("<I", 3_000_000), struct.pack("<I", 1_000))
    status, message = preprocess(command, path, "data.archive.folder=x/train", "data.quality.on_corrupt=skip")
    assert status == 2 and "the entry 'x/train/a/bomb.png' claims 1,000 bytes and unpacks to more" in message
    assert not list((tmp_path / "home" / "packs").iterdir())


def test_the_folder_is_part_of_the_identity(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", IMAGES.items())
    archive = ArchiveConfig(url=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    config = DataConfig(name="x", source="archive", home=str(tmp_path), image_size=16, archive=archive)
    packs = [make(replace(config, archive=replace(archive, folder=f"x/{name}"))) for name in ("train", "test", "train")]
    assert packs[0].folder == packs[2].folder != packs[1].folder
