"""Windows of a scene as the model takes its images: cut, completed where data are missing, resized."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landuse.mapping.plan import Chunk, Grid

BLANK = 128  # grey, where nothing is known


def shares_of_data(grid: Grid, chunk: Chunk, valid: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """What part of each window of a chunk holds data, (rows, columns); 0 where there are none at all.

    Args:
        valid: (H, W) of the chunk's pixels; None: all of them do.
    """
    shape = (len(chunk.rows), len(chunk.columns))
    if valid is None or valid.all():
        return np.ones(shape, np.float32)
    shares = np.array([valid[window].mean() for window in windows_of(grid, chunk)])
    nearly = np.nextafter(np.float32(1), np.float32(0))  # a single pixel without data must not be lost to rounding
    return np.where(shares < 1, np.minimum(shares.astype(np.float32), nearly), np.float32(1)).reshape(shape)


def windows_of(grid: Grid, chunk: Chunk) -> Iterator[tuple[slice, slice]]:
    """Where the windows lie in the pixels of their chunk, row by row."""
    top, left = (part.start for part in grid.pixels_of(chunk))
    for row in chunk.rows:
        first = int(grid.rows.starts[row]) - top
        for column in chunk.columns:
            start = int(grid.columns.starts[column]) - left
            yield slice(first, first + grid.rows.tile), slice(start, start + grid.columns.tile)


def cut(
    grid: Grid,
    chunk: Chunk,
    pixels: NDArray[np.uint8],
    valid: NDArray[np.bool_] | None,
    wanted: NDArray[np.bool_],
    size_px: int,
) -> NDArray[np.uint8]:
    """The wanted windows of a chunk, (N, size_px, size_px, 3) uint8, in the order of :func:`windows_of`.

    A window is what :func:`landuse.data.decode.decode` makes of a file with the same pixels. Those that overlap are
    resized together where they fall on whole pixels of the result, which differs along their edges alone: there the
    neighbourhood is known. Pixels without data take the mean colour of the others, so that no made-up edge is louder
    than the picture.

    Args:
        pixels: (H, W, 3) of the chunk.
        valid: (H, W); None: all hold data.
        wanted: one value a window.
    """
    tiles = np.empty((int(wanted.sum()), size_px, size_px, 3), np.uint8)
    if valid is None and wanted.all() and (shape := _shape_together(grid, chunk, size_px)) is not None:
        whole = resized(pixels, *shape)
        for tile, (down, across) in zip(tiles, windows_of(grid, chunk), strict=True):
            top, left = down.start * size_px // grid.rows.tile, across.start * size_px // grid.columns.tile
            tile[:] = whole[top : top + size_px, left : left + size_px]
        return tiles
    places = (window for window, is_wanted in zip(windows_of(grid, chunk), wanted.ravel(), strict=True) if is_wanted)
    for tile, window in zip(tiles, places, strict=True):
        picture = pixels[window]
        if valid is not None and not valid[window].all():
            picture = _completed(picture, valid[window])
        missing = (grid.rows.tile - picture.shape[0], grid.columns.tile - picture.shape[1])
        if any(missing):  # of a scene that is smaller than a tile
            picture = np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        tile[:] = resized(picture, size_px, size_px)
    return tiles


def _completed(picture: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    mean = picture[valid].mean(axis=0) if valid.any() else np.full(3, BLANK)
    return np.where(valid[..., None], picture, np.rint(mean).astype(np.uint8))


def _shape_together(grid: Grid, chunk: Chunk, size_px: int) -> tuple[int, int] | None:
    """To what a chunk is resized as a whole, rows and columns; None: its windows do not overlap, or not so evenly."""
    shape = []
    for axis, windows in ((grid.rows, chunk.rows), (grid.columns, chunk.columns)):
        starts = axis.starts[windows.start : windows.stop] - axis.starts[windows.start]
        if axis.stride == axis.tile or (starts * size_px % axis.tile).any() or axis.length < axis.tile:
            return None
        shape.append(int(starts[-1]) * size_px // axis.tile + size_px)
    return shape[0], shape[1]


def resized(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) in another size; bicubic and antialiased, as packs are made."""
    if picture.shape[:2] == (height, width):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
