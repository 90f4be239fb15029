"""Decoding every image once, in parallel, into one file: the costly part of packing.

Few images, and the files of a stream, are shared by threads: Pillow lets go of Python's lock while it decodes and
resizes, and a thread starts at once and hands nothing over. Many images are shared by processes, since small ones take
longer in Python than in Pillow, and drawing the embedded dataset holds the lock.
"""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landuse.data.decode import THUMBNAIL_PX, UnusableImageError
from landuse.data.quality import Findings
from landuse.data.rows import Rows
from landuse.data.sources import Source
from landuse.data.workers import num_workers

CHUNK = 32  # images per task
# Images for which processes would take longer to start than they save: half a second against threads.
FEW_DRAWN, FEW_FILES = 256, 4096
IMAGES, THUMBNAILS = "images.u8", "thumbnails.u8"


@dataclass(frozen=True)
class Row:
    """What was found out about one image; its pixels are in the files."""

    index: int
    width: int
    height: int
    notes: tuple[str, ...]
    digest: bytes  # SHA-256 of its file, where the source asks for it
    problem: str | None  # why it cannot be used


@dataclass(frozen=True)
class Scan:
    """All images of a source, in its order; rows of images that cannot be used hold nothing."""

    images: Rows  # (N, size, size, 3) RGB
    thumbnails: Rows  # (N, 32, 32) grey
    usable: list[int]
    digests: list[bytes]
    findings: Findings


def scan(source: Source, size_px: int, folder: Path) -> Scan:
    """Decode all images of a source into two files in ``folder``.

    Raises:
        OSError: the files could not be written.
    """
    count = len(source.paths)
    shapes = {IMAGES: (count, size_px, size_px, 3), THUMBNAILS: (count, THUMBNAIL_PX, THUMBNAIL_PX)}
    for name, shape in shapes.items():
        with (folder / name).open("wb") as file:
            file.truncate(int(np.prod(shape)))
    findings, usable, digests = Findings(count), [], [b""] * count
    order = source.reading_order
    chunks = [order[start : start + CHUNK] for start in range(0, count, CHUNK)]
    with _executor(source, size_px, folder) as executor:
        for rows in executor.map(_read_chunk, chunks):
            for row in rows:
                digests[row.index] = row.digest
                if row.problem is None:
                    usable.append(row.index)
                    findings.add_image(source.paths[row.index], row.width, row.height, row.notes)
                else:
                    findings.unusable[source.paths[row.index]] = row.problem
    images, thumbnails = (Rows(folder / name, shape) for name, shape in shapes.items())
    return Scan(images, thumbnails, sorted(usable), digests, findings)


class _Turns:
    """Hands out the images of a stream in its order, the next one once the file of the last has been fetched.

    Unlike images assigned beforehand, these never make a thread that is ahead wait for or overtake another.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._order, self._lock = source, iter(source.reading_order), threading.Lock()

    def fetch_next(self) -> tuple[int, bytes | UnusableImageError]:
        with self._lock:
            return _fetch(self._source, next(self._order))


def _fetch(source: Source, index: int) -> tuple[int, bytes | UnusableImageError]:
    try:
        return index, source.fetch(index)
    except UnusableImageError as error:
        return index, error


class _Reader:
    """One worker's view of the source and the files."""

    def __init__(self, source: Source, size_px: int, folder: Path, turns: _Turns | None) -> None:
        self._source, self._size_px, self._turns = source, size_px, turns
        self._images, self._thumbnails = (FileIO(folder / name, "r+") for name in (IMAGES, THUMBNAILS))

    def close(self) -> None:
        self._images.close()
        self._thumbnails.close()

    def rows(self, indices: Sequence[int]) -> list[Row]:
        """As many images as there are indices: these, or of a stream whichever are next."""
        if self._turns is None:
            return [self._row(*_fetch(self._source, i)) for i in indices]
        return [self._row(*self._turns.fetch_next()) for _ in indices]

    def _row(self, index: int, content: bytes | UnusableImageError) -> Row:
        digest = b""
        try:
            if isinstance(content, UnusableImageError):
                raise content
            if self._source.hashes_files:
                digest = hashlib.sha256(content).digest()
            decoded = self._source.decode(index, content, self._size_px)
        except UnusableImageError as error:
            return Row(index, 0, 0, (), digest, error.reason)
        for file, values in ((self._images, decoded.pixels), (self._thumbnails, decoded.thumbnail)):
            _write_at(file, index * values.nbytes, np.ascontiguousarray(values))
        return Row(index, decoded.width, decoded.height, decoded.notes, digest, None)


def _write_at(file: FileIO, offset: int, values: NDArray[np.uint8]) -> None:
    file.seek(offset)
    rest = values.data.cast("B")
    while rest:  # an unbuffered write may write less than it is given, as on a disk that is nearly full
        rest = rest[file.write(rest) :]


_worker = threading.local()


def _start(
    source: Source, size_px: int, folder: Path, turns: _Turns | None = None, readers: list[_Reader] | None = None
) -> None:
    _worker.reader = _Reader(source, size_px, folder, turns)
    if readers is not None:
        readers.append(_worker.reader)


def _read_chunk(indices: Sequence[int]) -> list[Row]:
    rows: list[Row] = _worker.reader.rows(indices)
    return rows


@contextmanager
def _executor(source: Source, size_px: int, folder: Path) -> Iterator[Executor]:
    workers = num_workers()
    arguments = (source, size_px, folder)
    executor: Executor
    readers: list[_Reader] = []  # of threads, whose files outlive them
    few = FEW_DRAWN if source.holds_the_lock else FEW_FILES
    if len(source.paths) >= few and workers > 1 and not source.is_stream:
        # Spawned, because forking after threads have started can deadlock.
        executor = ProcessPoolExecutor(workers, get_context("spawn"), _start_process, arguments)
    else:
        turns = _Turns(source) if source.is_stream else None
        executor = ThreadPoolExecutor(workers, "decode", _start, (*arguments, turns, readers))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)  # on Ctrl-C, what has begun is finished and no more
        for reader in readers:
            reader.close()


def _start_process(source: Source, size_px: int, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers it
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _start(source, size_px, folder)


def _end_with_the_parent() -> None:
    """A parent killed outright cannot stop its workers: they notice and leave."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
