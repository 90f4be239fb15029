"""Reading images from folders and archives."""

import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landuse.config.schema import ArchiveConfig, DataConfig
from landuse.data.archive import VerifiedArchive
from landuse.data.sources import ArchiveSource, FolderSource, open_source
from landuse.errors import UserError


def png(pixels: np.ndarray, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def zipped(path: Path, entries: dict[str, bytes]) -> VerifiedArchive:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return VerifiedArchive(path, "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())


PIXELS = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def test_zip_and_tar_and_folder_agree(tmp_path: Path) -> None:
    entries = {f"Top/Images/{name}/{name}{i}.png": png(PIXELS + i) for name in ("a", "b") for i in range(2)}
    archive = zipped(tmp_path / "x.zip", {**entries, "Top/readme.txt": b"", "__MACOSX/Top/._a.png": b""})
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            file = tmp_path / "tree" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    tarred = VerifiedArchive(tmp_path / "x.tgz", "sha256:y")
    sources = [ArchiveSource(archive), ArchiveSource(tarred), FolderSource(tmp_path / "tree", tmp_path / "home")]
    for source in sources:
        assert source.paths == ["a/a0.png", "a/a1.png", "b/b0.png", "b/b1.png"]
        copy = pickle.loads(pickle.dumps(source))  # as a worker process gets it
        assert np.array_equal(copy.read(3, 16).pixels, PIXELS + 1)


def identity(root: Path, home: Path) -> str:
    source = FolderSource(root, home)
    digests = [hashlib.sha256(source.fetch(i)).digest() for i in range(len(source.paths))]
    return source.identity or source.identify(digests)


def test_folder_identity_follows_the_content(tmp_path: Path) -> None:
    for place in ("one", "two"):
        for name in ("a", "b"):
            (tmp_path / place / name).mkdir(parents=True)
            (tmp_path / place / name / "x.png").write_bytes(png(PIXELS))
    one = identity(tmp_path / "one", tmp_path)
    assert identity(tmp_path / "two", tmp_path) == one
    (tmp_path / "two" / "b" / "x.png").write_bytes(png(PIXELS + 1))
    assert identity(tmp_path / "two", tmp_path) != one


def test_an_unchanged_folder_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "x.png").write_bytes(png(PIXELS))
    first = identity(tmp_path / "root", tmp_path / "home")
    assert FolderSource(tmp_path / "root", tmp_path / "home").identity is None  # a next change could hide
    monkeypatch.setattr("landuse.data.identity.SETTLED_S", 0)
    assert identity(tmp_path / "root", tmp_path / "home") == first
    assert FolderSource(tmp_path / "root", tmp_path / "home").identity == first
    changed = tmp_path / "root" / "a" / "x.png"
    before = changed.stat()
    changed.write_bytes(png(PIXELS[::-1]))  # as many bytes, and the old time of modification:
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FolderSource(tmp_path / "root", tmp_path / "home").identity is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["readme.txt"], "no images found"),
        (["loose.png"], "no images found"),
        (["inner.zip"], "no images found, but 'inner.zip'.*give the inner one"),
        (["only/a.png"], "only one class folder"),
        (["x/a/1.png", "b/1.png"], "several places"),
    ],
)
def test_wrong_layout(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ArchiveSource(zipped(tmp_path / "x.zip", {name: png(PIXELS) for name in names}))


def test_neither_zip_nor_tar(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"something else")
    with pytest.raises(UserError, match="cannot be read as a zip or tar"):
        ArchiveSource(VerifiedArchive(tmp_path / "x.zip", "sha256:z"))


def test_damaged_entry_is_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x.zip", {f"{name}/x.png": png(PIXELS) for name in ("a", "b")})
    content = bytearray(archive.path.read_bytes())
    content[80:90] = b"0123456789"
    archive.path.write_bytes(content)
    with pytest.raises(UserError, match=r"a/x.png in .*x.zip cannot be read"):
        ArchiveSource(archive).read(0, 16)


def test_entries_cannot_escape(tmp_path: Path) -> None:
    """An archive is read in place and nothing of it is written; names that point out of it are refused all the same."""
    entries = {name: png(PIXELS) for name in ("good/a/x.png", "../../evil/a/x.png", "good/b/x.png")}
    with pytest.raises(UserError, match=r"x.zip: the entry '../../evil/a/x.png' leads out of the archive"):
        ArchiveSource(zipped(tmp_path / "x.zip", entries))
    assert [path.name for path in tmp_path.rglob("*")] == ["x.zip"]


def test_open_source_obtains_the_archive(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x.zip", {f"{name}/x.png": png(PIXELS) for name in ("a", "b")})
    url = archive.path.as_uri()
    config = DataConfig(
        source="archive", home=str(tmp_path), archive=ArchiveConfig(url=url, checksums=[archive.checksum])
    )
    assert open_source(config).identity == archive.checksum


def test_class_folders_in_several_places(tmp_path: Path) -> None:
    for name in ("x/a", "x/b", "y/a", "y/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(png(PIXELS))
    with pytest.raises(UserError, match=rf"\('x', 'y'\). Choose one, such as data.root={tmp_path}/x"):
        FolderSource(tmp_path, tmp_path / "home")


def test_linked_class_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    for name in ("a", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(PIXELS))
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "a")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    assert FolderSource(root, tmp_path / "home").paths == ["a/x.png", "b/x.png"]
