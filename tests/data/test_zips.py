"""Zips: what only they can hold, claim and hide."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from landuse.data import judge
from landuse.errors import UserError
from tests.data.archives import FILES, METHODS, NOISE, opened, patched, refused, set_flag, unix, zipped


@pytest.mark.parametrize("method", METHODS)
def test_zip_gives_its_files(tmp_path: Path, method: int) -> None:
    archive = opened(zipped(tmp_path / "x.zip", FILES.items(), method))
    assert {name: archive.read(name) for name in archive.names} == {n: c for n, c in FILES.items() if n.endswith("g")}
    assert archive.others == ["read me.txt"] and not archive.is_stream


def test_zip64_and_data_in_front(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1.png", "b/2.png"):
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(NOISE)
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    assert opened(path).read("b/2.png") == NOISE


def test_links_within_a_zip_are_followed(tmp_path: Path) -> None:
    link = unix("b/1.png", stat.S_IFLNK | 0o777)
    archive = opened(zipped(tmp_path / "x.zip", [("a/1.png", b"one"), (link, b"../a/1.png")]))
    assert archive.read("b/1.png") == b"one"


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes_in_a_zip(tmp_path: Path, kind: int) -> None:
    refused(zipped(tmp_path / "x.zip", [("a/1.png", b"1"), (unix("dev", kind), b"")]), "'dev'", "device or a pipe")


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


def test_a_link_that_is_no_plain_one(tmp_path: Path) -> None:
    link = unix("b/1.png", stat.S_IFLNK | 0o777)
    long = zipped(tmp_path / "x.zip", [("a/1.png", b"1"), (link, b"x/" * 3000)])
    refused(long, "'b/1.png'", "link to a name of 6,000 bytes")
    damaged = zipped(tmp_path / "x.zip", [("a/1.png", b"1"), (link, b"../a/1.png")])
    refused(patched(damaged, b"../a/1.png", b"../a/2.png"), "'b/1.png'", "link that cannot be read .*checksum")


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


def test_encrypted_zip(tmp_path: Path) -> None:
    for flag in (0x1, 0x40):
        refused(
            set_flag(zipped(tmp_path / "x.zip", [("a/1.png", b"1")]), flag), "'a/1.png'", "encrypted.*without a pass"
        )


def test_a_method_that_is_not_supported(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("a/1.png", b"1" * 99)], zipfile.ZIP_LZMA)
    patched(path, b"\2\0\x0e\0", b"\2\0\x09\0")  # flags and method, in both headers
    refused(path, "'a/1.png'", "packed by Deflate64, which is not supported")
