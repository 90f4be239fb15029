"""A scene small enough to be looked at, put together from what is read for the map: no pixel is read for it again."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landuse.mapping.plan import Axis, Chunk, Grid

LONGER_SIDE = 2048  # pixels, at most
MEAN_OF = 4  # pixels along a side that one of a preview is the mean of, or a few more


class Preview(NamedTuple):
    """The preview of a scene that is covered by a grid."""

    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) in pixels."""
        height, width = self.grid.rows.length, self.grid.columns.length
        shrunk = max(1.0, height / LONGER_SIDE, width / LONGER_SIDE)
        return max(1, round(height / shrunk)), max(1, round(width / shrunk))

    def place(self, chunk: Chunk) -> tuple[slice, slice]:
        """Rows and columns of the preview whose middles lie in what the chunk has for itself."""
        (rows, columns), (height, width) = self._own(chunk), self.shape
        return _within(rows, self.grid.rows.length, height), _within(columns, self.grid.columns.length, width)

    def shrink(self, chunk: Chunk, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What a chunk shows there, (h, w, 3); each pixel the mean of some that it stands for.

        Args:
            colours: (H, W, 3) of the chunk.
        """
        rows, columns = self._own(chunk)
        down, across = self.place(chunk)
        shape = down.stop - down.start, across.stop - across.start
        if 0 in shape:
            return np.empty((*shape, 3), np.uint8)
        own = colours[: rows.stop - rows.start, : columns.stop - columns.start]
        if own.shape[:2] == shape:
            return own
        every = max(1, min(own.shape[0] // shape[0], own.shape[1] // shape[1]) // MEAN_OF)
        image = Image.fromarray(np.ascontiguousarray(own[::every, ::every]))
        return np.asarray(image.resize(shape[::-1], Image.Resampling.BOX))

    def _own(self, chunk: Chunk) -> tuple[slice, slice]:
        """The pixels of the scene from its first window to those of the next chunks."""
        return _until_next(self.grid.rows, chunk.rows), _until_next(self.grid.columns, chunk.columns)


def _until_next(axis: Axis, windows: range) -> slice:
    is_last = windows.stop == len(axis.starts)
    return slice(int(axis.starts[windows.start]), axis.length if is_last else int(axis.starts[windows.stop]))


def _within(pixels: slice, length: int, shrunk: int) -> slice:
    """Of ``shrunk`` equal parts of a side those whose middles lie in these pixels."""
    first, last = (int(np.ceil(edge * shrunk / length - 0.5)) for edge in (pixels.start, pixels.stop))
    return slice(first, last)
