"""The packed dataset: one uint8 memory map a split, with its index and statistics. Images are decoded once, here.

    <home>/packs/<name>-<size>px-<fingerprint>/
        train.npy val.npy test.npy      (N, size, size, 3) uint8 RGB
        index.csv                       split,row,path,label
        pack.json                       classes, counts, statistics, fingerprints

A pack is built under a temporary name and renamed when it is whole, so what carries its name is complete. The splits
are files of their own: training cannot touch the test images by accident, because it never opens their file.
"""

import csv
import hashlib
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from landuse.config.schema import DataConfig
from landuse.data.archive import accepted_checksums
from landuse.data.sources import Source, class_of, open_source
from landuse.data.split import SPLITS, Split, fingerprint, split_images, split_spec
from landuse.errors import UserError

log = logging.getLogger(__name__)

FORMAT = 1  # raise when the content of a pack changes for the same configuration
CHUNK = 64  # images a worker reads per task
FEW = 256  # images below which starting worker processes costs more than it saves


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
    max_images: int | None = None

    def split(self, name: str) -> PackedSplit:
        """Open ``train``, ``val`` or ``test``."""
        images = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        with (self.folder / "index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == name]
        if len(rows) != len(images) or images.shape[1:] != (self.image_size, self.image_size, 3):
            raise UserError(
                f"The pack {self.folder} is damaged ({name}.npy does not fit index.csv): remove the folder."
            )
        number = {label: i for i, label in enumerate(self.classes)}
        labels = np.array([number[row["label"]] for row in rows], dtype=np.int64)
        n = len(rows) if self.max_images is None else self.max_images  # any prefix is a balanced sample
        return PackedSplit(name, images[:n], labels[:n], [row["path"] for row in rows[:n]])


def prepare(config: DataConfig) -> Pack:
    """The pack of this configuration: found, or else downloaded, split, decoded and written.

    Raises:
        UserError: the data cannot be had or read; says which file and what to do.
    """
    home = Path(config.home)
    for identity in _identities_without_reading(config):
        folder = _folder(home, config, _fingerprint(identity, config))
        if (folder / "pack.json").is_file():
            return _open(folder, config)
    source = open_source(config)
    folder = _folder(home, config, _fingerprint(source.identity, config))
    with FileLock(_made(folder.parent) / f".{folder.name}.lock"):  # a second process waits and then finds the pack
        if not (folder / "pack.json").is_file():
            try:
                _build(folder, source, config)
            except OSError as error:
                raise UserError(
                    f"The pack {folder} could not be written ({error.strerror or error}): make room there, or "
                    "choose another place with data.home=PATH."
                ) from error
    return _open(folder, config)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.home: {folder} cannot be made ({error.strerror}); choose another place.") from error
    return folder


def _identities_without_reading(config: DataConfig) -> list[str]:
    """Content identities that the configuration alone pins down, so that a finished pack needs its archive no more.

    A local file is always looked at: its address says nothing of its content.
    """
    is_remote = config.source == "archive" and not str(config.archive.url).startswith("file:")
    return accepted_checksums(config.archive) if is_remote else []


def _fingerprint(identity: str, config: DataConfig) -> str:
    """SHA-256 of all that determines the content of a pack."""
    content = {"format": FORMAT, "source": identity, "size": config.image_size, "split": split_spec(config.split)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _folder(home: Path, config: DataConfig, data_fingerprint: str) -> Path:
    return home / "packs" / f"{config.name}-{config.image_size}px-{data_fingerprint[:12]}"


def _open(folder: Path, config: DataConfig) -> Pack:
    content: dict[str, Any] = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    content.pop("format")
    if config.max_images is not None:  # another dataset: it says so wherever the fingerprint or the counts go
        limited = f"{content['data_fingerprint']}:max_images={config.max_images}"
        content["data_fingerprint"] = hashlib.sha256(limited.encode()).hexdigest()
        content["num_images"] = {name: min(n, config.max_images) for name, n in content["num_images"].items()}
    return Pack(folder=folder, max_images=config.max_images, **content)


def _build(folder: Path, source: Source, config: DataConfig) -> None:
    started = time.perf_counter()
    split = split_images(source.paths, config.split)
    classes = sorted({class_of(source.paths[i]) for name in SPLITS for i in split[name]})
    total = sum(map(len, split.values()))
    log.info("packing %d images of %d classes at %d px", total, len(classes), config.image_size)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed: the lock is ours
    temporary.mkdir()
    try:
        for name in SPLITS:
            _write_split(temporary / f"{name}.npy", source, split[name], config.image_size)
        _write_index(temporary / "index.csv", source, split)
        mean, std = channel_statistics(np.load(temporary / "train.npy", mmap_mode="r"))
        content = {
            "format": FORMAT,
            "name": config.name,
            "classes": classes,
            "image_size": config.image_size,
            "mean": mean,
            "std": std,
            "num_images": {name: len(split[name]) for name in SPLITS},
            "data_fingerprint": _fingerprint(source.identity, config),
            "split_fingerprint": fingerprint(source.paths, split),
        }
        (temporary / "pack.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.info("packed in %.1f s: %s", time.perf_counter() - started, folder)


def _write_split(path: Path, source: Source, members: list[int], size_px: int) -> None:
    """Write ``members``, in their order, as one array. Read in the source's order: a tar can only be read forwards."""
    row_of = {i: row for row, i in enumerate(members)}
    forwards = sorted(members)
    chunks = [forwards[start : start + CHUNK] for start in range(0, len(forwards), CHUNK)]
    # Plain writes and no memory map: on a full disk they fail with an error, while a map ends the process.
    with path.open("wb") as file, _reader(source, size_px, len(members)) as read_chunks:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(members), size_px, size_px, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for chunk, block in zip(chunks, read_chunks(chunks), strict=True):
            for i, image in zip(chunk, block, strict=True):
                file.seek(start + row_of[i] * image.nbytes)
                file.write(image.tobytes())


@contextmanager
def _reader(source: Source, size_px: int, num_images: int) -> Iterator[Any]:
    """A function from chunks of indices to blocks of images, in worker processes where the work is worth them.

    Spawned, because forking after threads have started can deadlock; the source travels once per worker.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_images < FEW or workers == 1:
        yield partial(map, partial(_read_chunk, source, size_px))
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (source, size_px)) as pool:
        try:
            yield partial(pool.map, _read_chunk_in_worker)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_in_worker: dict[str, Any] = {}


def _start_worker(source: Source, size_px: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers it
    threading.Thread(target=_end_with_the_parent, args=(os.getppid(),), daemon=True).start()
    _in_worker.update(source=source, size_px=size_px)


def _end_with_the_parent(parent: int) -> None:
    """A parent killed outright cannot stop its workers: they notice and leave."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _read_chunk_in_worker(members: list[int]) -> NDArray[np.uint8]:
    return _read_chunk(_in_worker["source"], _in_worker["size_px"], members)


def _read_chunk(source: Source, size_px: int, members: list[int]) -> NDArray[np.uint8]:
    return np.stack([source.read(i, size_px) for i in members])


def _write_index(path: Path, source: Source, split: Split) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "row", "path", "label"])
        for name in SPLITS:
            for row, i in enumerate(split[name]):
                writer.writerow([name, row, source.paths[i], class_of(source.paths[i])])


def channel_statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of (N, H, W, 3) uint8 images, on the scale 0..1.

    From a histogram of the 256 values, so it is exact, the same on every machine, and reads the images once.
    """
    histogram = np.zeros((3, 256), dtype=np.int64)
    for start in range(0, len(images), 256):
        block = images[start : start + 256]
        for channel in range(3):
            histogram[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256, dtype=np.int64)
    mean, std = [], []
    for counts in histogram:
        n, total, squares = int(counts.sum()), int((counts * values).sum()), int((counts * values**2).sum())
        mean.append(total / n / 255)
        std.append(max(((n * squares - total**2) / n**2) ** 0.5 / 255, 1e-3))  # a constant channel stays finite
    return mean, std
