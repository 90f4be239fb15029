"""Where images come from: the generator, an archive, or a folder. All are a list of names and a way to read one.

An archive is read in place and never unpacked, so nothing in it can write outside the pack.
"""

import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from PIL import Image

from landuse.config.schema import DataConfig, SyntheticConfig
from landuse.data import synthetic
from landuse.data.archive import VerifiedArchive, obtain
from landuse.data.decode import Decoded, UnusableImageError, decode, make_thumbnail
from landuse.data.identity import recall, remember, signature
from landuse.errors import UserError

# What zipfile, tarfile and their decompressors raise on damaged, encrypted or exotic archives.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError,
    NotImplementedError,
)  # fmt: skip
ValueRange = Sequence[float] | None
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm")


class Source(Protocol):
    """A dataset before packing. Pickled into worker processes, so it opens its files anew in each."""

    identity: str | None  # names the content: equal identities mean equal images; None: see identify()
    paths: list[str]  # "class/name.ext", relative to the folder of class folders, sorted
    holds_the_lock: bool  # reading computes in Python, so that threads would wait for each other

    @property
    def reading_order(self) -> Sequence[int]:
        """Indices into ``paths`` in the order in which they are best read."""
        ...

    def read(self, index: int, size_px: int) -> Decoded:
        """Image ``paths[index]`` as it is packed; UnusableImageError names one that cannot be used."""
        ...

    def identify(self, digests: Sequence[bytes]) -> str:
        """The identity, from the digests of all images where it was not known before they were read."""
        ...


def open_source(config: DataConfig) -> Source:
    """The source that ``data.source`` names; downloads an archive first if need be."""
    if config.source == "synthetic":
        return SyntheticSource(config.synthetic)
    home, value_range = Path(config.home), config.quality.value_range
    if config.source == "archive":
        return ArchiveSource(obtain(config.archive, home), value_range)
    assert config.root is not None
    return FolderSource(Path(config.root), home, value_range)


def class_of(path: str) -> str:
    """The class of "class/name.ext"."""
    return path.partition("/")[0]


class SyntheticSource:
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

    def read(self, index: int, size_px: int) -> Decoded:
        name, _, file = self.paths[index].partition("/")
        pixels = synthetic.draw_scene(name, self._seed, int(file[len(name) : -len(".png")]), size_px)
        return Decoded(pixels, make_thumbnail(Image.fromarray(pixels)), size_px, size_px)

    def identify(self, digests: Sequence[bytes]) -> str:
        assert self.identity is not None
        return self.identity


class FolderSource:
    """A folder in which some folder holds one folder of images per class."""

    holds_the_lock = False

    def __init__(self, root: Path, home: Path, value_range: ValueRange = None) -> None:
        """
        Args:
            home: where the identity of an unchanged folder is remembered.
        """
        self.paths, prefix = _class_tree(_files_below(root), f"data.root={root}")
        self._root, self._home, self._value_range = root / prefix, home, value_range
        self._signature = signature(self._root / path for path in self.paths)
        self.identity = recall(home, self._subject, self._signature)

    @property
    def _subject(self) -> str:
        return f"folder {self._root.resolve()}"

    @property
    def reading_order(self) -> Sequence[int]:
        return range(len(self.paths))

    def read(self, index: int, size_px: int) -> Decoded:
        path = self._root / self.paths[index]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UnusableImageError(str(path), f"cannot be read ({error.strerror}): repair or remove it.") from error
        digest = hashlib.sha256(content).digest() if self.identity is None else b""
        try:
            return replace(decode(content, str(path), size_px, self._value_range), digest=digest)
        except UnusableImageError as error:
            error.digest = digest
            raise

    def identify(self, digests: Sequence[bytes]) -> str:
        """By content: a copy elsewhere has the same identity, an edited image another."""
        digest = hashlib.sha256()
        for name, content in zip(self.paths, digests, strict=True):
            digest.update(os.fsencode(name) + b"\0" + content)
        identity = f"folder:{digest.hexdigest()}"
        remember(self._home, self._subject, self._signature, identity)
        return identity


class ArchiveSource:
    """A zip or tar archive in which some folder holds one folder of images per class."""

    holds_the_lock = False

    def __init__(self, archive: VerifiedArchive, value_range: ValueRange = None) -> None:
        self._path, self._value_range = archive.path, value_range
        self.identity: str | None = archive.checksum
        try:
            names = self._names()
        except ARCHIVE_ERRORS as error:
            raise UserError(f"{self._path} cannot be read as a zip or tar archive ({error}).") from error
        self.paths, self._prefix = _class_tree(list(dict.fromkeys(names)), str(self._path))

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_zip", "_tar")}

    @cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return zipfile.ZipFile(self._path) if zipfile.is_zipfile(self._path) else None

    @cached_property
    def _tar(self) -> tarfile.TarFile:
        return tarfile.open(self._path)

    def _names(self) -> list[str]:
        if self._zip is not None:
            return [entry.filename for entry in self._zip.infolist() if not entry.is_dir()]
        return [entry.name for entry in self._tar.getmembers() if entry.isfile() or entry.islnk()]

    @property
    def reading_order(self) -> Sequence[int]:
        return range(len(self.paths))

    def read(self, index: int, size_px: int) -> Decoded:
        name = self._prefix + self.paths[index]
        try:
            if self._zip is not None:
                content = self._zip.read(name)
            else:
                member = self._tar.extractfile(name)
                assert member is not None
                content = member.read()
        except ARCHIVE_ERRORS as error:
            origin = f"{name} in {self._path}"
            raise UnusableImageError(origin, f"cannot be read ({error}): the archive is damaged.") from error
        return decode(content, f"{name} in {self._path}", size_px, self._value_range)

    def identify(self, digests: Sequence[bytes]) -> str:
        assert self.identity is not None
        return self.identity


def _files_below(root: Path) -> list[str]:
    """Relative paths of all files, through links too; a link back to a folder already visited is not followed."""
    names, visited = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        visited.add(Path(folder).resolve())
        subfolders[:] = [name for name in subfolders if (Path(folder) / name).resolve() not in visited]
        names += [(Path(folder) / name).relative_to(root).as_posix() for name in files]
    return names


def _class_tree(names: list[str], origin: str) -> tuple[list[str], str]:
    """The sorted "class/name.ext" of all images, and the prefix in front of the class folders.

    Raises:
        UserError: no image, fewer than two class folders, or class folders at different depths.
    """
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not _is_ignored(name)]
    prefixes = {"/".join(PurePosixPath(name).parts[:-2]) for name in images if len(PurePosixPath(name).parts) >= 2}
    if not prefixes:
        raise UserError(
            f"{origin}: no images found. Expected one folder per class with images ({', '.join(IMAGE_SUFFIXES)}) in it."
        )
    if len(prefixes) > 1:
        shown = ", ".join(f"'{prefix or '.'}'" for prefix in sorted(prefixes)[:3])
        raise UserError(
            f"{origin}: class folders lie in several places ({shown}). All must lie side by side in one folder."
        )
    prefix = f"{found}/" if (found := prefixes.pop()) else ""
    paths = sorted(
        name[len(prefix) :] for name in images if name.startswith(prefix) and name.count("/") == prefix.count("/") + 1
    )
    classes = sorted({class_of(path) for path in paths})
    if len(classes) < 2:
        raise UserError(f"{origin}: only one class folder ('{classes[0]}') holds images; at least two are needed.")
    return paths, prefix


def _is_ignored(name: str) -> bool:
    """Hidden files, the resource forks that macOS adds, and names that point out of the archive."""
    parts = PurePosixPath(name).parts
    return name.startswith("/") or any(part.startswith((".", "__MACOSX")) for part in parts)
