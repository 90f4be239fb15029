"""Where images come from: the generator, an archive, or a folder. All are a list of names and a way to read one.

An archive is read in place and never unpacked, so nothing in it can write outside the pack.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

from landuse.config.schema import DataConfig, SyntheticConfig
from landuse.data import synthetic
from landuse.data.archive import VerifiedArchive, obtain
from landuse.data.decode import Decoded, UnusableImageError, decode, make_thumbnail
from landuse.data.entries import open_archive
from landuse.data.identity import recall, remember, signature
from landuse.data.judge import ARCHIVE_ERRORS, shown
from landuse.errors import UserError

log = logging.getLogger(__name__)

ValueRange = Sequence[float] | None
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm")
EXPECTED = f"Expected one folder per class with images ({', '.join(IMAGE_SUFFIXES)}) in it"
SHOWN_FOLDERS = 5  # in a message


class Source(Protocol):
    """A dataset before packing. Shared by threads, and pickled into worker processes."""

    identity: str | None  # names the content: equal identities mean equal images; None: see identify()
    paths: list[str]  # "class/name.ext", relative to the folder of class folders, sorted
    holds_the_lock: bool  # reading computes in Python, so that threads would wait for each other
    hashes_files: bool = False  # identify() needs the SHA-256 of every file
    is_stream: bool = False  # fetching out of reading order is dear, so that threads must take turns

    @property
    def reading_order(self) -> Sequence[int]:
        """Indices into ``paths`` in the order in which they are best read."""
        ...

    def read(self, index: int, size_px: int) -> Decoded:
        """Image ``paths[index]`` as it is packed; UnusableImageError names one that cannot be used."""
        return self.decode(index, self.fetch(index), size_px)

    def fetch(self, index: int) -> bytes:
        """The file of an image, for :meth:`decode`.

        Raises:
            UnusableImageError: an archive is damaged there.
            UserError: it cannot be read, which may be different the next time: nothing is to be concluded from it.
        """
        ...

    def decode(self, index: int, content: bytes, size_px: int) -> Decoded:
        """The image in a file that was fetched; UnusableImageError if there is none."""
        ...

    def identify(self, digests: Sequence[bytes]) -> str:
        """The identity once the files have been read, from their digests where it takes those."""
        assert self.identity is not None
        return self.identity


def open_source(config: DataConfig) -> Source:
    """The source that ``data.source`` names; downloads an archive first if need be."""
    if config.source == "synthetic":
        return SyntheticSource(config.synthetic)
    home, value_range = Path(config.home), config.quality.value_range
    if config.source == "archive":
        return ArchiveSource(obtain(config.archive, home), value_range, config.archive.folder)
    assert config.root is not None
    return FolderSource(Path(config.root), home, value_range)


def class_of(path: str) -> str:
    """The class of "class/name.ext"."""
    return path.partition("/")[0]


class SyntheticSource(Source):
    """The embedded dataset: scenes drawn at the size that is asked for."""

    holds_the_lock = True

    def __init__(self, config: SyntheticConfig) -> None:
        self._seed = config.seed
        self.identity: str | None = (
            f"synthetic:version={synthetic.VERSION},seed={config.seed},per_class={config.images_per_class}"
        )
        self.paths = [f"{name}/{name}{i:04d}.png" for name in synthetic.CLASSES for i in range(config.images_per_class)]

    @property
    def reading_order(self) -> Sequence[int]:
        return range(len(self.paths))

    def fetch(self, index: int) -> bytes:
        return b""  # nothing to read: drawn

    def decode(self, index: int, content: bytes, size_px: int) -> Decoded:
        name, _, file = self.paths[index].partition("/")
        pixels = synthetic.draw_scene(name, self._seed, int(file[len(name) : -len(".png")]), size_px)
        return Decoded(pixels, make_thumbnail(Image.fromarray(pixels)), size_px, size_px)


class FolderSource(Source):
    """A folder in which some folder holds one folder of images per class."""

    holds_the_lock, hashes_files = False, True

    def __init__(self, root: Path, home: Path, value_range: ValueRange = None) -> None:
        """
        Args:
            home: where the identity of an unchanged folder is remembered.
        """
        names = [name for name in files_below(root) if is_image(name)]
        if sys.getfilesystemencoding() != "utf-8" and not all(map(str.isascii, names)):
            raise UserError(
                f"data.root={root}: file names have other letters than Python is told to read here "
                f"({sys.getfilesystemencoding()}): set PYTHONUTF8=1."
            )
        self.paths, prefix = _class_tree(names, f"data.root={root}", lambda folder: f"data.root={root / folder}")
        self._root, self._home, self._value_range = root / prefix, home, value_range
        _warn_of_empty_classes(self._root, {class_of(path) for path in self.paths})
        try:
            self._signature = signature(map(self._file, range(len(self.paths))))
        except OSError as error:
            raise _unreadable(error) from error
        self.identity = recall(home, self._subject, self._signature)

    @property
    def _subject(self) -> str:
        return f"folder {self._root.resolve()}"

    @property
    def reading_order(self) -> Sequence[int]:
        return range(len(self.paths))

    def fetch(self, index: int) -> bytes:
        try:
            with open(self._file(index), "rb") as file:  # noqa: PTH123
                return file.read()
        except OSError as error:
            raise _unreadable(error) from error

    def decode(self, index: int, content: bytes, size_px: int) -> Decoded:
        return decode(content, self._file(index), size_px, self._value_range)

    def _file(self, index: int) -> str:
        return f"{self._root}{os.sep}{self.paths[index]}"  # making a Path of each takes as long as reading a small one

    def identify(self, digests: Sequence[bytes]) -> str:
        """By content: a copy elsewhere has the same identity, an edited image another."""
        digest = hashlib.sha256()
        for name, content in zip(self.paths, digests, strict=True):
            digest.update(os.fsencode(name) + b"\0" + content)
        identity = f"folder:{digest.hexdigest()}"
        remember(self._home, self._subject, self._signature, identity)
        return identity


class ArchiveSource(Source):
    """A zip or tar archive in which some folder holds one folder of images per class."""

    holds_the_lock = False

    def __init__(self, archive: VerifiedArchive, value_range: ValueRange = None, folder: str | None = None) -> None:
        """
        Args:
            folder: the one that holds the class folders; None: the only one that does.

        Raises:
            UserError: an entry of the archive is refused, or its images do not lie in class folders.
        """
        self._path, self._value_range = archive.path, value_range
        self.identity: str | None = archive_identity(archive.checksum, folder)
        folder = None if folder is None else _normal(folder)
        self._archive = open_archive(archive.path, is_image)
        self.is_stream = self._archive.is_stream
        names = list(self._archive.names)
        if not names and self._archive.others:
            held = ", ".join(shown(name) for name in self._archive.others)
            raise UserError(
                f"{self._path}: no images found, but {held}. {EXPECTED}; of an archive within it, give the inner one."
            )
        self.paths, self._prefix = _class_tree(names, str(self._path), "data.archive.folder={}".format, folder)
        index = {self._prefix + path: i for i, path in enumerate(self.paths)}
        self._order = [index[name] for name in names if name in index]

    @property
    def reading_order(self) -> Sequence[int]:
        return self._order

    def fetch(self, index: int) -> bytes:
        name = self._prefix + self.paths[index]
        try:
            return self._archive.read(name)
        except ARCHIVE_ERRORS as error:
            if getattr(error, "errno", None) is not None:  # the disk's, not the image's
                raise UserError(f"{self._path} cannot be read ({error}): check the disk, and try again.") from error
            origin = f"{name} in {self._path}"
            raise UnusableImageError(origin, f"cannot be read ({error}): the archive is damaged.") from error

    def decode(self, index: int, content: bytes, size_px: int) -> Decoded:
        return decode(content, f"{self._prefix}{self.paths[index]} in {self._path}", size_px, self._value_range)


def _warn_of_empty_classes(root: Path, classes: set[str]) -> None:
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if empty := [name for name in folders if name not in classes]:
        log.warning("no images in %s of %s: no classes", ", ".join(map(shown, empty[:SHOWN_FOLDERS])), root)


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename} cannot be read ({error.strerror}): repair or remove it, and try again.")


def archive_identity(checksum: str, folder: str | None) -> str:
    """Which images an archive gives: its checksum, and the folder in it where one is chosen."""
    return checksum if folder is None else f"{checksum}:folder={_normal(folder)}"


def _normal(folder: str) -> str:
    """A folder in an archive as the archive's listing names it; "" is the root."""
    return "/".join(part for part in folder.split("/") if part not in ("", "."))


def files_below(root: Path) -> list[str]:
    """Relative paths of all files, through links too; a link back to a folder already visited is not followed."""
    names, visited = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        visited.add(Path(folder).resolve())
        subfolders[:] = [name for name in subfolders if (Path(folder) / name).resolve() not in visited]
        below = Path(folder).relative_to(root).as_posix()
        names += files if below == "." else [f"{below}/{name}" for name in files]
    return names


def _class_tree(
    names: list[str], origin: str, choose: Callable[[str], str], folder: str | None = None
) -> tuple[list[str], str]:
    """The sorted "class/name.ext" of all images, and the prefix in front of the class folders.

    Args:
        names: of images.
        choose: what to write in order to choose a folder.
        folder: the chosen one; images elsewhere are left out. None: there must be only one.

    Raises:
        UserError: no image, fewer than two class folders, or class folders at different depths.
    """
    prefixes = sorted({"/".join(name.split("/")[:-2]) for name in names if "/" in name})
    listed = ", ".join(shown(prefix or ".") for prefix in prefixes[:SHOWN_FOLDERS])
    listed += f" and {len(prefixes) - SHOWN_FOLDERS} more" if len(prefixes) > SHOWN_FOLDERS else ""
    if not prefixes:
        raise UserError(f"{origin}: no images found. {EXPECTED}.")
    if folder is not None:
        if folder not in prefixes:
            raise UserError(f"{origin}: {choose(folder or '.')} holds no class folders; these do: {listed}.")
        prefixes = [folder]
    if len(prefixes) > 1:
        raise UserError(
            f"{origin}: class folders lie in several places ({listed}). Choose one, such as "
            f"{choose(next(filter(None, prefixes)))}, or bring all side by side into one folder."
        )
    prefix = f"{prefixes[0]}/" if prefixes[0] else ""
    paths = sorted(
        name[len(prefix) :] for name in names if name.startswith(prefix) and name.count("/") == prefix.count("/") + 1
    )
    classes = sorted({class_of(path) for path in paths})
    if len(classes) < 2:
        raise UserError(f"{origin}: only one class folder ('{classes[0]}') holds images; at least two are needed.")
    return paths, prefix


def is_image(path: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """By its suffix; hidden files and the resource forks that macOS adds are none."""
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in path.split("/"))
    return path.lower().endswith(tuple(suffixes)) and not is_hidden
