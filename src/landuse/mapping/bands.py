"""A scene read from top to bottom in bands, each pixel once, ahead of those who need it.

Most files hold whole rows, or blocks that neighbouring windows share: what reads window by window decodes the same
pixels several times. A band is a row of chunks, all across where memory allows, and what it shares with the one above
is kept from there.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.mapping.plan import Chunk, Grid
from landuse.mapping.scene import Pixels, Reader, Scene

BAND_BYTES = 96 * 2**20  # at most, where a single chunk is not larger
AHEAD, AHEAD_BYTES = 16, 96 * 2**20  # chunks that wait for whoever answers them, of so many bytes at most
LOOK_S = 0.1  # between looks at whether anybody still waits


class Band(NamedTuple):
    """Chunks beside each other, and the pixels of the scene that they cover together."""

    chunks: Sequence[Chunk]
    rows: slice
    columns: slice


class Task(NamedTuple):
    """A chunk and its pixels."""

    chunk: Chunk
    pixels: Pixels


def bands(grid: Grid, chunks: Sequence[Chunk], pixel_bytes: int) -> list[Band]:
    """The bands of these chunks in the order of reading: where a scene is too wide for one, strip after strip.

    Args:
        pixel_bytes: of the scene's bands that are read.
    """
    found = []
    for _, row in groupby(chunks, key=lambda chunk: chunk.rows.start):
        members: list[Chunk] = []
        for chunk in row:
            if members and _band(grid, [*members, chunk])[1] * pixel_bytes > BAND_BYTES:
                found.append(_band(grid, members)[0])
                members = []
            members.append(chunk)
        found.append(_band(grid, members)[0])
    return sorted(found, key=lambda band: (band.columns.start, band.rows.start))


def _band(grid: Grid, chunks: Sequence[Chunk]) -> tuple[Band, int]:
    """The band, and how many pixels it has."""
    (rows, first), (_, last) = grid.pixels_of(chunks[0]), grid.pixels_of(chunks[-1])
    columns = slice(first.start, last.stop)
    return Band(tuple(chunks), rows, columns), (rows.stop - rows.start) * (columns.stop - columns.start)


def read_bands(reader: Reader, wanted: Sequence[Band]) -> Iterator[tuple[Band, Pixels]]:
    """The pixels of each band.

    Raises:
        UserError: the scene cannot be read.
    """
    above: tuple[Band, Pixels] | None = None
    for band in wanted:
        pixels = _read(reader, band, above)
        above = band, pixels
        yield band, pixels


def _read(reader: Reader, band: Band, above: tuple[Band, Pixels] | None) -> Pixels:
    if (
        above is None
        or above[0].columns != band.columns
        or not above[0].rows.start < band.rows.start < above[0].rows.stop
    ):
        return reader.read(band.rows, band.columns)
    kept, (colours, valid) = above[0].rows, above[1]
    shared = band.rows.start - kept.start
    if kept.stop >= band.rows.stop:
        last = band.rows.stop - kept.start
        return Pixels(colours[shared:last], None if valid is None else valid[shared:last])
    more = reader.read(slice(kept.stop, band.rows.stop), band.columns)
    return Pixels(
        np.concatenate([colours[shared:], more.colours]),
        _joined(None if valid is None else valid[shared:], more.valid, kept.stop - band.rows.start, len(more.colours)),
    )


def _joined(
    upper: NDArray[np.bool_] | None, lower: NDArray[np.bool_] | None, num_upper: int, num_lower: int
) -> NDArray[np.bool_] | None:
    """Masks above each other, of so many rows."""
    if upper is None and lower is None:
        return None
    width = (upper if upper is not None else lower).shape[1]  # type: ignore[union-attr]
    parts = [
        np.ones((num_rows, width), bool) if part is None else part
        for part, num_rows in ((upper, num_upper), (lower, num_lower))
    ]
    return np.concatenate(parts)


class Tasks:
    """The chunks of a scene with their pixels, read by a thread of its own while others are answered."""

    def __init__(self, scene: Scene, grid: Grid, chunks: Sequence[Chunk], num_takers: int) -> None:
        """
        Args:
            num_takers: threads that call :meth:`take`.
        """
        self._scene, self._grid, self._num_takers = scene, grid, num_takers
        self._bands = bands(grid, chunks, scene.pixel_bytes)
        largest = max((_band(grid, [chunk])[1] for chunk in chunks), default=1)
        self._queue: queue.Queue[Task | None] = queue.Queue(max(1, min(AHEAD, AHEAD_BYTES // (3 * largest))))
        self.is_closed = threading.Event()

    def read(self) -> None:
        """Read everything; to be called in a thread of its own.

        Raises:
            UserError: the scene cannot be read.
        """
        with self._scene.opened() as reader:
            for band, pixels in read_bands(reader, self._bands):
                for chunk in band.chunks:
                    self._put(Task(chunk, _part(pixels, band, *self._grid.pixels_of(chunk))))
                if self.is_closed.is_set():
                    return
        for _ in range(self._num_takers):
            self._put(None)

    def take(self) -> Task | None:
        """The next chunk; None: there is none, or nobody waits for it any more."""
        while not self.is_closed.is_set():
            with suppress(queue.Empty):
                return self._queue.get(timeout=LOOK_S)
        return None

    def _put(self, task: Task | None) -> None:
        while not self.is_closed.is_set():
            with suppress(queue.Full):
                self._queue.put(task, timeout=LOOK_S)
                return


def _part(pixels: Pixels, band: Band, rows: slice, columns: slice) -> Pixels:
    """Of a band's pixels those at these rows and columns of the scene; nothing is copied."""
    down = slice(rows.start - band.rows.start, rows.stop - band.rows.start)
    across = slice(columns.start - band.columns.start, columns.stop - band.columns.start)
    valid = None if pixels.valid is None else pixels.valid[down, across]
    if valid is not None and valid.all():  # as if it had been read by itself: what is read beside it must not matter
        valid = None
    return Pixels(pixels.colours[down, across], valid)
