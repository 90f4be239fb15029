"""The packed dataset: one uint8 memory map a split, with its index and statistics. Images are decoded once, here.

    <home>/packs/<name>-<size>px-<fingerprint>/
        train.npy val.npy test.npy      (N, size, size, 3) uint8 RGB
        index.csv                       split,row,path,label,group: images that show the same share a group
        split/                          train.csv, val.csv, test.csv: the split as lists for data.split.files
        quality.json                    what was found: unusable images, conversions, sizes, duplicates, leaks
        pack.json                       classes, counts, statistics, fingerprints, checksums

A pack is built under a temporary name and renamed when it is whole, so what carries its name is complete. The splits
are files of their own: training cannot touch the test images by accident, because it never opens their file. Nothing in
a pack tells when or where it was made: the same data give the same bytes.
"""

import csv
import errno
import hashlib
import io
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landuse.config.ground import is_tile_size
from landuse.config.schema import DataConfig
from landuse.data import quality, split
from landuse.data.archive import accepted_checksums, local_path
from landuse.data.duplicates import find_pairs, group_numbers
from landuse.data.identity import recall, remember, signature
from landuse.data.rows import Rows
from landuse.data.scan import Scan, scan
from landuse.data.seal import digest, require_unchanged
from landuse.data.sources import Source, archive_identity, class_of, open_source
from landuse.data.split import SPLITS, Split
from landuse.data.workers import num_workers, require_main_guard
from landuse.errors import UserError
from landuse.files import locked, made, rename, settle, write_json

log = logging.getLogger(__name__)

FORMAT = 4  # raise when the content of a pack changes for the same configuration
COPIED_BYTES = 2**20  # at once: what stays in a core's cache
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class PackedSplit:
    """One split: its images and what is known of them."""

    name: str
    images: NDArray[np.uint8]  # (N, size, size, 3) RGB, memory-mapped
    labels: NDArray[np.int64]  # (N,)
    paths: list[str]  # "class/name.ext"

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Pack:
    """A packed dataset on disk; opens a split when it is asked for."""

    folder: Path
    name: str
    classes: list[str]
    image_size: int  # pixels
    mean: list[float]  # of the training split, per channel, images on the scale 0..1
    std: list[float]
    num_images: dict[str, int]
    data_fingerprint: str
    split_fingerprint: str
    num_unusable: int  # images of the source that were left out
    num_leaks: dict[str, int]  # images of val and test that show what an image of an earlier split shows
    sha256: dict[str, str]  # of the splits' files and their index
    max_images: int | None = None

    @property
    def report_folder(self) -> Path:
        """Where the data report goes: beside the packs, so that a pack does not depend on how it is shown."""
        return self.folder.parent.parent / "reports" / self.folder.name

    @property
    def tile_size(self) -> int | None:
        """Side in pixels of the square that most files were cut to before they were resized; None: it is not known."""
        try:
            found = json.loads((self.folder / "quality.json").read_text(encoding="utf-8"))
            side = quality.commonest_side(found["sizes"])
        except (OSError, ValueError, KeyError, TypeError):  # a training that is over must not end by this
            return None
        return side if is_tile_size(side) else None

    def split(self, name: str) -> PackedSplit:
        """Open ``train``, ``val`` or ``test``.

        Raises:
            UserError: its files are damaged, or were changed since they were written.
        """
        try:
            own = {file: self.sha256[file] for file in (f"{name}.npy", "index.csv")}  # the others stay closed
            require_unchanged(self.folder.parent.parent, self.folder, own)
            images = np.load(self.folder / f"{name}.npy", mmap_mode="r")
            with (self.folder / "index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                paths = [row["path"] for row in csv.DictReader(file) if row["split"] == name]
            number = {label: i for i, label in enumerate(self.classes)}
            labels = np.array([number[class_of(path)] for path in paths], dtype=np.int64)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise _damaged(self.folder, error) from error
        expected = (len(paths), self.image_size, self.image_size, 3)
        n = self.num_images[name]  # with max_images fewer than there are: any prefix is a balanced sample
        if images.shape != expected or images.dtype != np.uint8 or not 0 < n <= len(paths):
            raise _damaged(self.folder, f"{name}.npy, index.csv and pack.json differ")
        return PackedSplit(name, images[:n], labels[:n], paths[:n])


def _damaged(folder: Path, problem: object) -> UserError:
    return UserError(f"The pack {folder} is damaged ({problem}): remove the folder, and it is made anew.")


def prepare(config: DataConfig) -> Pack:
    """The pack of this configuration, fit for training.

    Raises:
        UserError: the data cannot be had, or are not what ``data.quality`` asks for; says what and what to do.
    """
    pack = make(config)
    check_quality(pack, config)
    return pack


def make(config: DataConfig) -> Pack:
    """The pack of this configuration, whatever was found in it: there already, or else downloaded, decoded and split.

    Raises:
        UserError: the data cannot be had.
    """
    home = Path(config.home)
    if (folder := _find(home, config, _known_identities(config))) is not None:
        return _open(folder, config)
    require_main_guard()
    source = _open_source(config)
    if (folder := _find(home, config, [source.identity])) is not None:
        return _open(folder, config)
    with locked(home, f"{config.name}-{config.image_size}px"):  # a second process waits and then finds the pack
        folder = _find(home, config, [source.identity])
        if folder is None:
            try:
                folder = _build(made(home / "packs"), source, config)
            except OSError as error:
                cure = "make room there" if error.errno in NO_ROOM else "check that disk"
                raise UserError(
                    f"The pack could not be written below {home} ({error.strerror or error}): {cure}, or choose "
                    "another place with data.home=PATH."
                ) from error
    return _open(folder, config)


def _known_identities(config: DataConfig) -> list[str | None]:
    """Content identities known without reading, so that a finished pack needs its archive no more.

    A checksum pins a remote archive down. Where several contents are accepted, or a file may have changed, it is the
    one that these addresses gave the last time.
    """
    if config.source != "archive":
        return []
    checksums = accepted_checksums(config.archive, Path(config.home))
    accepted = [archive_identity(checksum, config.archive.folder) for checksum in checksums]
    if len(accepted) == 1 and not _local_files(config):
        return list(accepted)
    known = recall(Path(config.home), _addresses(config), _local_signature(config))
    return [known] if known in accepted else []


def _open_source(config: DataConfig) -> Source:
    seen = _local_signature(config)  # before it is verified
    source = open_source(config)
    if config.source == "archive" and source.identity is not None:
        remember(Path(config.home), _addresses(config), seen, source.identity)
    return source


def _addresses(config: DataConfig) -> str:
    """What an archive's identity is remembered by; not legible, since addresses may hold passwords."""
    urls = "\n".join([str(config.archive.url), *config.archive.mirrors])
    return archive_identity(f"archive {hashlib.sha256(urls.encode()).hexdigest()}", config.archive.folder)


def _local_files(config: DataConfig) -> list[Path]:
    urls = [str(config.archive.url), *config.archive.mirrors] if config.source == "archive" else []
    return [local_path(url) for url in urls if urlsplit(url).scheme == "file"]


def _local_signature(config: DataConfig) -> str | None:
    return signature(path for path in _local_files(config) if path.is_file())


def _find(home: Path, config: DataConfig, identities: Sequence[str | None]) -> Path | None:
    for identity in identities:
        if identity is not None:
            folder = _folder(home / "packs", config, _fingerprint(identity, config))
            if (folder / "pack.json").is_file():
                return folder
    return None


def _fingerprint(identity: str, config: DataConfig) -> str:
    """SHA-256 of all that determines the content of a pack."""
    content = {
        "format": FORMAT,
        "source": identity,
        "size": config.image_size,
        "split": split.split_spec(config),
        "value_range": config.quality.value_range,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _folder(packs: Path, config: DataConfig, data_fingerprint: str) -> Path:
    return packs / f"{config.name}-{config.image_size}px-{data_fingerprint[:12]}"


def _open(folder: Path, config: DataConfig) -> Pack:
    try:
        content: dict[str, Any] = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        del content["format"]
        if config.max_images is not None:  # another dataset: it says so wherever the fingerprint or the counts go
            limited = f"{content['data_fingerprint']}:max_images={config.max_images}"
            content["data_fingerprint"] = hashlib.sha256(limited.encode()).hexdigest()
            content["num_images"] = {name: min(n, config.max_images) for name, n in content["num_images"].items()}
        return Pack(folder=folder, max_images=config.max_images, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"pack.json: {error!r}") from error


def check_quality(pack: Pack, config: DataConfig) -> None:
    """Warn of unusable images and leaks that were found, or refuse the pack for them, as ``data.quality`` says.

    Raises:
        UserError: names the first unusable image, or counts the leaks, and says what can be done.
    """
    if pack.num_unusable:
        found = json.loads((pack.folder / "quality.json").read_text(encoding="utf-8"))
        first = found["unusable"][0]
        message = f"{pack.num_unusable} of {found['num_images']} images cannot be used; the first: {first['path']} "
        message += f"{first['reason']} All are listed in {pack.folder / 'quality.json'}."
        if config.quality.on_corrupt == "error":
            raise UserError(f"{message} To leave them out: data.quality.on_corrupt=skip.")
        log.warning("%s They are left out.", message)
    if any(pack.num_leaks.values()):
        counts = ", ".join(f"{n} of {pack.num_images[name]} {name}" for name, n in pack.num_leaks.items() if n)
        message = f"{counts} images show what an image of an earlier split shows, see {pack.folder / 'quality.json'}."
        if config.quality.on_leak == "error":
            cure = "data.quality.on_leak=move puts such images into the earliest of their splits, =warn leaves them."
            raise UserError(f"data.split.files={config.split.files} leaks: {message} {cure}")
        log.warning("leak: %s", message)


def _build(packs: Path, source: Source, config: DataConfig) -> Path:
    started = time.perf_counter()
    log.info("packing %d images at %d px", len(source.paths), config.image_size)
    temporary = packs / f".{config.name}-{config.image_size}px.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed: the lock is ours
    temporary.mkdir()
    try:
        spec = split.split_spec(config)
        scanned = scan(source, config.image_size, made(temporary / "scan"))
        fingerprint = _fingerprint(source.identify(scanned.digests), config)
        with scanned.images, scanned.thumbnails:
            _write_pack(temporary, source.paths, scanned, fingerprint, config)
        if split.split_spec(config) != spec:
            raise UserError("data.split.files or data.split.groups changed in the meantime: run the command again.")
        shutil.rmtree(temporary / "scan")
        folder = _folder(packs, config, fingerprint)
        if not (folder / "pack.json").is_file():  # there already when files were touched and not changed
            settle(temporary)
            shutil.rmtree(folder, ignore_errors=True)  # of a pack that was not removed whole
            rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.info("packed in %.1f s: %s", time.perf_counter() - started, folder)
    return folder


def _write_pack(folder: Path, paths: list[str], scanned: Scan, fingerprint: str, config: DataConfig) -> None:
    if not scanned.usable:
        path, reason = min(scanned.findings.unusable.items())
        raise UserError(f"None of the {len(paths)} images can be used; the first: {path} {reason}")
    pairs = find_pairs(scanned.thumbnails, scanned.images, scanned.usable, config.quality.duplicates)
    links = [(pair.first, pair.second) for pair in pairs]
    if config.split.groups is not None:
        links += split.read_groups(paths, Path(config.split.groups))
    groups = group_numbers(len(paths), links)
    parts = split.split_images(paths, scanned.usable, groups, config)
    leaks = split.leaks(parts, groups)
    with ThreadPoolExecutor(num_workers()) as executor:
        files = [folder / f"{name}.npy" for name in SPLITS]
        written = list(executor.map(_write_images, files, repeat(scanned.images), parts.values()))
    mean, std = channel_statistics(written[SPLITS.index("train")][0])
    _write_index(folder / "index.csv", paths, parts, groups)
    split.write_lists(folder / "split", paths, parts)
    write_json(folder / "quality.json", quality.to_json(scanned.findings, paths, pairs, leaks))
    if at_odds := quality.at_odds(paths, pairs):
        first, second = at_odds[0]
        log.warning(
            "Images that show the same have two classes (pairs: %d), such as %s and %s: one label of each is wrong.",
            len(at_odds), first, second,
        )  # fmt: skip
    content = {
        "format": FORMAT,
        "name": config.name,
        "classes": sorted({class_of(paths[i]) for name in SPLITS for i in parts[name]}),
        "image_size": config.image_size,
        "mean": mean,
        "std": std,
        "num_images": {name: len(parts[name]) for name in SPLITS},
        "num_unusable": len(scanned.findings.unusable),
        "num_leaks": {name: sum(leak.split == name for leak in leaks) for name in SPLITS[1:]},
        "data_fingerprint": fingerprint,
        "split_fingerprint": split.fingerprint(paths, parts),
        "sha256": {file.name: sha256 for file, (_, sha256) in zip(files, written, strict=True)}
        | {"index.csv": digest(folder / "index.csv")},
    }
    write_json(folder / "pack.json", content)


def _write_images(path: Path, images: Rows, members: list[int]) -> tuple[NDArray[np.int64], str]:
    """Write rows ``members`` of ``images``, in their order, as one array.

    Returns:
        (3, 256) how often which value occurs, and the file's SHA-256.
    """
    counts, sha256 = np.zeros((3, 256), np.int64), hashlib.sha256()
    # Plain writes and no memory map: on a full disk they fail with an error, while a map ends the process.
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(members), *images.shape[1:])}
        start_of_file = io.BytesIO()
        np.lib.format.write_array_header_1_0(start_of_file, header)
        file.write(start_of_file.getbuffer())
        sha256.update(start_of_file.getbuffer())
        rows = max(1, COPIED_BYTES // images.row_bytes)
        for start in range(0, len(members), rows):
            block = images[members[start : start + rows]]
            file.write(block.data)
            sha256.update(block.data)
            counts += value_counts(block)
    return counts, sha256.hexdigest()


def _write_index(path: Path, paths: Sequence[str], parts: Split, groups: Sequence[int]) -> None:
    sizes = Counter(groups[i] for name in SPLITS for i in parts[name])
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "row", "path", "label", "group"])
        for name in SPLITS:
            for row, i in enumerate(parts[name]):
                group = paths[groups[i]] if sizes[groups[i]] > 1 else ""
                writer.writerow([name, row, paths[i], class_of(paths[i]), group])


def value_counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, H, W, 3) uint8 -> (3, 256): how often each value occurs in each channel."""
    rows = Image.fromarray(images.reshape(-1, images.shape[2], 3))
    return np.array(rows.histogram()).reshape(3, 256)  # Pillow counts several times faster than numpy


def channel_statistics(counts: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, on the scale 0..1, of images of which :func:`value_counts` is known.

    Whole numbers up to the end, so it is exact and the same on every machine.
    """
    values = np.arange(256, dtype=np.int64)
    mean, std = [], []
    for channel in counts:
        n, total, squares = int(channel.sum()), int((channel * values).sum()), int((channel * values**2).sum())
        mean.append(total / n / 255)
        std.append(max(((n * squares - total**2) / n**2) ** 0.5 / 255, 1e-3))  # a constant channel stays finite
    return mean, std
