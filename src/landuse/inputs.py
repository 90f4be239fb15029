"""The images that ``input=`` names."""

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from landuse.data.sources import IMAGE_SUFFIXES, files_below, is_image
from landuse.errors import UserError

FORMS = "Give an image, a folder, a quoted pattern such as 'input=photos/**/*.jpg', or - for a list of files on stdin"


def list_images(asked: str | None, stdin: Iterable[str], suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The files that ``input=`` means; whether they are readable images is found out by whoever decodes them.

    Args:
        asked: an image, a folder (its images at any depth), a pattern with ``*``, ``?``, ``[...]`` or ``**``, or ``-``.
        stdin: lines, each of which names a file; read for ``-`` alone.
        suffixes: of images in folders and patterns.

    Returns:
        At least one file: images of folders and patterns in natural order ("tile2" before "tile10"), those of stdin as
        they came.

    Raises:
        UserError: there is nothing.
    """
    if not asked:
        raise UserError(f"input= is missing. {FORMS}.")
    if asked == "-":
        return _listed(stdin)
    path = Path(asked)
    if path.is_dir():
        found = [path / name for name in files_below(path) if is_image(name, suffixes)]
    elif path.exists():
        return [path]
    elif glob.has_magic(asked):
        matches = map(Path, glob.iglob(asked, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        found = [match for match in matches if is_image(match.name, suffixes) and match.is_file()]
    else:
        raise UserError(f"input={asked}: no such file or folder. {FORMS}.")
    if not found:
        raise UserError(f"input={asked}: no images found ({', '.join(suffixes)}).")
    return sorted(found, key=_natural)


def _listed(stdin: Iterable[str]) -> list[Path]:
    try:
        names = [line.rstrip("\r\n") for line in stdin]
    except UnicodeDecodeError as error:
        raise UserError(f"input=-: stdin is no list of files ({error}): give one file name a line.") from error
    if not any(names):
        raise UserError("input=-: stdin names no files: give one file name a line, as find and ls do.")
    return [Path(name) for name in names if name]


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that orders numbers in names by their size."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), part) if index % 2 else (-1, part) for index, part in enumerate(parts)]
