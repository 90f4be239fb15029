"""Which windows of a scene are classified, and how their answers become a map: plain arithmetic, without any scene.

window   what the model sees at once, a tile of the size on the ground that it was trained with
chunk    neighbouring windows that are read and answered together; never divided, so that whoever computes a chunk,
         a single process, one that resumes or one of several, computes the same
cell     the map's own resolution, an eighth of a window; all pixels of a cell have the same probabilities
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CELLS_PER_TILE = 8  # along a side
CHUNK_ROWS, CHUNK_COLUMNS = 8, 16  # windows of a chunk, at most
CHUNK_PX = 4096  # along a side, where a single window is not larger


class Chunk(NamedTuple):
    """Windows ``rows`` x ``columns`` of a grid."""

    number: int
    rows: range
    columns: range

    @property
    def num_windows(self) -> int:
        """Of the chunk."""
        return len(self.rows) * len(self.columns)


@dataclass(frozen=True)
class Axis:
    """Windows along one side of a scene.

    Windows follow each other by the stride. The last one ends where the scene does and overlaps the one before by more;
    only in a scene that is smaller than a window does it stretch over the edge.

    Attributes:
        length: of the scene, in pixels.
        tile: of a window, in pixels.
        stride: from one window to the next, in pixels; at most the tile.
    """

    length: int
    tile: int
    stride: int

    def __post_init__(self) -> None:
        if not (self.length >= 1 and 1 <= self.stride <= self.tile):
            raise ValueError(f"no grid of windows has {self}")

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First pixel of each window, (N,)."""
        last = max(self.length - self.tile, 0)
        return np.array([*range(0, last, self.stride), last], np.int64)

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Pixels at which cells begin, and the end of the scene, (M + 1,)."""
        parts = max(1, round(CELLS_PER_TILE * self.stride / self.tile))
        inner = np.rint(np.arange(0, self.length, self.stride / parts)).astype(np.int64)
        return np.unique(np.append(inner[inner < self.length], self.length))

    @cached_property
    def covering(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The windows that cover the centre of each cell and their weights, (M, K) both; a weight of 0: no window.

        A window weighs most in its middle: sin^2 of the position in it (a Hann window), which with a stride of half a
        tile adds up to one everywhere.
        """
        centres = (self.edges[:-1] + self.edges[1:]) / 2
        most = -(-self.tile // self.stride) + 1  # windows on one place, and one more because the last one is shifted
        first = np.searchsorted(self.starts, centres - self.tile, side="right")
        windows = first[:, None] + np.arange(most)
        position = (centres[:, None] - self.starts[np.minimum(windows, len(self.starts) - 1)]) / self.tile
        is_there = (windows < len(self.starts)) & (position > 0) & (position < 1)
        weights = np.where(is_there, np.sin(np.pi * position) ** 2, 0)
        return np.where(is_there, windows, 0), weights.astype(np.float32)

    def cells_of(self, start: int, stop: int) -> slice:
        """The cells that pixels ``start`` to ``stop`` lie in."""
        return slice(int(np.searchsorted(self.edges, start, "right")) - 1, int(np.searchsorted(self.edges, stop)))

    def windows_of(self, cells: slice) -> slice:
        """The windows that cover cells."""
        windows, weights = (values[cells] for values in self.covering)
        found = windows[weights > 0]
        return slice(int(found.min()), int(found.max()) + 1)

    def repeats(self, cells: slice, start: int, stop: int) -> NDArray[np.int64]:
        """How many of the pixels ``start`` to ``stop`` lie in each of these cells."""
        inside = np.clip(self.edges[cells.start : cells.stop + 1], start, stop)
        return inside[1:] - inside[:-1]


@dataclass(frozen=True)
class Grid:
    """All windows of a scene.

    Attributes:
        rows: windows from top to bottom.
        columns: from left to right.
    """

    rows: Axis
    columns: Axis

    @property
    def num_windows(self) -> int:
        """Of the scene."""
        return len(self.rows.starts) * len(self.columns.starts)

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """In the order of reading, a row of them after the other."""
        pairs = (
            (rows, columns) for rows in _parts(self.rows, CHUNK_ROWS) for columns in _parts(self.columns, CHUNK_COLUMNS)
        )
        return tuple(Chunk(number, rows, columns) for number, (rows, columns) in enumerate(pairs))

    def pixels_of(self, chunk: Chunk) -> tuple[slice, slice]:
        """Rows and columns of the scene that the windows of a chunk cover."""
        return _pixels(self.rows, chunk.rows), _pixels(self.columns, chunk.columns)


def _pixels(axis: Axis, windows: range) -> slice:
    first, last = axis.starts[[windows[0], windows[-1]]]
    return slice(int(first), min(int(last) + axis.tile, axis.length))


def _parts(axis: Axis, most: int) -> Iterator[range]:
    """Windows of one axis in chunks of equal size, but for the last."""
    size = max(1, min(most, (CHUNK_PX - axis.tile) // axis.stride + 1))
    for start in range(0, len(axis.starts), size):
        yield range(start, min(start + size, len(axis.starts)))


def blend(
    values: NDArray[np.float32], shares: NDArray[np.float32], rows: Axis, columns: Axis, cells: slice
) -> NDArray[np.float32]:
    """The weighted mean of windows in the cells of some rows.

    Args:
        values: (R, N, C) probabilities of the windows that ``rows.windows_of(cells)`` names; anything where their share
            is 0.
        shares: (R, N), what part of each window holds data; it weighs by that.
        cells: rows of cells.

    Returns:
        (len(cells), number of cell columns, C); NaN where no window with data lies.
    """
    windows = np.maximum(rows.covering[0][cells] - rows.windows_of(cells).start, 0)
    weighed = np.where(shares[..., None] > 0, values, 0) * shares[..., None]
    totals = np.concatenate([weighed, shares[..., None]], axis=2)  # the last channel becomes the sum of the weights
    totals = _weighted_sum(_weighted_sum(totals, windows, rows.covering[1][cells], 0), *columns.covering, 1)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float32] = totals[..., :-1] / totals[..., -1:]
    return mean


def _weighted_sum(
    values: NDArray[np.float32], windows: NDArray[np.int64], weights: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    shape = [1, 1, 1]
    shape[axis] = -1
    total: NDArray[np.float32] = np.take(values, windows[:, 0], axis) * weights[:, 0].reshape(shape)
    for k in range(1, windows.shape[1]):
        total += np.take(values, windows[:, k], axis) * weights[:, k].reshape(shape)
    return total
