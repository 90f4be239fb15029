"""What input= means."""

import io
from pathlib import Path

import pytest

from landuse.errors import UserError
from landuse.inputs import list_images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of empty files; the working folder is its parent."""
    monkeypatch.chdir(tmp_path)
    for name in ("tile10.jpg", "tile2.jpg", "b/tile1.TIFF", "notes.txt", ".hidden.png", "[1].png"):
        path = Path("photos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path("photos")


def named(asked: str | None, stdin: str = "") -> list[str]:
    return [path.as_posix() for path in list_images(asked, io.StringIO(stdin))]


def test_a_folder_means_its_images_at_any_depth_in_natural_order(photos: Path) -> None:
    expected = ["[1].png", "b/tile1.TIFF", "tile2.jpg", "tile10.jpg"]
    assert named("photos") == [f"photos/{name}" for name in expected]


def test_a_pattern_means_the_images_that_match(photos: Path) -> None:
    assert named("photos/*.jpg") == ["photos/tile2.jpg", "photos/tile10.jpg"]
    assert named("photos/**/tile?.*") == ["photos/b/tile1.TIFF", "photos/tile2.jpg"]


def test_a_file_is_taken_whatever_its_name(photos: Path) -> None:
    assert named("photos/notes.txt") == ["photos/notes.txt"]
    assert named("photos/[1].png") == ["photos/[1].png"]


def test_stdin_names_files_in_its_own_order(photos: Path) -> None:
    assert named("-", "b 2.png\r\na.png\n\n../x.jpg") == ["b 2.png", "a.png", "../x.jpg"]


@pytest.mark.parametrize(
    ("asked", "stdin", "message"),
    [
        (None, "", "input= is missing"),
        ("", "", "input= is missing"),
        ("photos/absent", "", "no such file or folder"),
        ("photos/*.png.gz", "", "no images found"),
        ("-", "\n\n", "stdin names no files"),
    ],
)
def test_nothing_there_is_said(photos: Path, asked: str | None, stdin: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        named(asked, stdin)


def test_a_folder_without_images_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images found"):
        list_images(str(tmp_path), [])


def test_stdin_that_is_no_text_is_said() -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n"), encoding="utf-8")
    with pytest.raises(UserError, match="no list of files"):
        list_images("-", stdin)
