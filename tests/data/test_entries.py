"""Archives that mean harm or are broken are refused by the name of an entry, before anything of them is used."""

import contextlib
import hashlib
import lzma
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from landuse.config.schema import ArchiveConfig, DataConfig
from landuse.data import judge, zips
from landuse.data.judge import ARCHIVE_ERRORS
from landuse.data.pack import make
from landuse.data.scan import scan
from landuse.errors import UserError
from tests.conftest import Run
from tests.data.archives import (
    IMAGES,
    METHODS,
    NOISE,
    Members,
    opened,
    patched,
    refused,
    set_flag,
    source,
    special,
    tarred,
    unix,
    zipped,
)


def test_names_are_brought_to_one_form(tmp_path: Path) -> None:
    """`tar czf x.tgz .` begins every name with "./"."""
    members: Members = [special("./", tarfile.DIRTYPE), ("./a/1.png", b"1"), ("b//2.png", b"2")]
    assert opened(tarred(tmp_path / "x.tgz", members, "gz")).names == ["a/1.png", "b/2.png"]


def test_odd_names_are_names(tmp_path: Path) -> None:
    names = ["ä/日本.png", "a b/\t.png", "A/1.png", "a/1.png", "a/..png", "a/x..png", "\udcff/1.png"]
    assert opened(tarred(tmp_path / "x.tar", [(name, b"1") for name in names])).names == names
    assert opened(zipped(tmp_path / "x.zip", [(name, b"1") for name in names[:-1]])).names == names[:-1]


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


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(f"a/{i}.png", b"") for i in range(12)]
    archives = [zipped(tmp_path / "x.zip", members), tarred(tmp_path / "x.tgz", members, "gz")]
    monkeypatch.setattr(judge, "MAX_ENTRIES", 10)
    for path in archives:
        refused(path, "a/10.png", "one more than the 10 ")
    monkeypatch.setattr(zips, "MAX_ENTRIES", 10)  # before zipfile makes an object of each
    with pytest.raises(UserError, match="has 12 entries, of 10 at most"):
        opened(archives[0])


def test_zips_and_tars_that_are_too_much_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(f"a/{i}.png", NOISE) for i in range(9)]
    paths = [zipped(tmp_path / "x.zip", members), tarred(tmp_path / "x.tgz", members, "gz")]
    monkeypatch.setattr(judge, "MAX_TOTAL_BYTES", 20_000)
    for path in paths:
        refused(path, "a/", "of 20,000 at most")


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
