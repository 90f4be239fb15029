"""Tars, compressed or not: what only they can hold, claim and hide."""

import lzma
import pickle
import random
import tarfile
import threading
import time
from pathlib import Path

import pytest

from landuse.data import judge, tars
from landuse.data.scan import scan
from landuse.errors import UserError
from tests.data.archives import FILES, IMAGES, Members, opened, patched, refused, source, special, tarred, zipped


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


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_compressed_tar_that_unpacks_too_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setattr(judge, "TOTAL_FLOOR", 10 << 20)
    members = [("a/1.png", b"1"), ("video.bin", bytes(20 << 20)), ("a/2.png", b"2")]
    refused(tarred(tmp_path / "x", members, compression), "'video.bin'", "more than 200 times")


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
