"""Windows as the model takes its images."""

import io

import numpy as np
import pytest
from PIL import Image

from landuse.data.decode import decode
from landuse.mapping.plan import Axis, Grid
from landuse.mapping.tiles import cut, shares_of_data

EVERYTHING = np.ones((2, 2), bool)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("size_px", [32, 20, 50])
def test_a_tile_is_what_its_file_decodes_to(size_px: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    grid = Grid(Axis(64, 32, 32), Axis(64, 32, 32))
    tiles = cut(grid, grid.chunks[0], pixels, None, EVERYTHING, size_px)
    for tile, (row, column) in zip(tiles, ((0, 0), (0, 32), (32, 0), (32, 32)), strict=True):
        assert (tile == decode(png(pixels[row : row + 32, column : column + 32]), "tile", size_px).pixels).all()


def test_pixels_without_data_take_the_mean_of_the_others() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = (10, 20, 30)
    valid = pixels.any(axis=2)
    grid = Grid(Axis(16, 16, 16), Axis(16, 16, 16))
    (tile,) = cut(grid, grid.chunks[0], pixels, valid, np.ones((1, 1), bool), 16)
    assert (tile == (10, 20, 30)).all()
    assert shares_of_data(grid, grid.chunks[0], valid).tolist() == [[0.5]]


def test_a_scene_smaller_than_a_tile_is_mirrored() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 30, 3), np.uint8)
    grid = Grid(Axis(10, 32, 16), Axis(30, 32, 16))
    (tile,) = cut(grid, grid.chunks[0], pixels, None, np.ones((1, 1), bool), 32)
    assert (tile[:10, :30] == pixels).all()
    assert (tile[10:20, :30] == pixels[::-1]).all() and (tile[:10, 30:] == pixels[:, :-3:-1]).all()


def test_only_wanted_windows_are_cut() -> None:
    pixels = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    grid = Grid(Axis(64, 32, 32), Axis(64, 32, 32))
    (tile,) = cut(grid, grid.chunks[0], pixels, None, np.array([[False, False], [True, False]]), 32)
    assert (tile == pixels[32:, :32]).all()


def test_shares_of_data() -> None:
    valid = np.zeros((64, 64), bool)
    valid[:32, :16] = True
    grid = Grid(Axis(64, 32, 32), Axis(64, 32, 32))
    assert shares_of_data(grid, grid.chunks[0], valid).tolist() == [[0.5, 0], [0, 0]]
    assert shares_of_data(grid, grid.chunks[0], None).tolist() == [[1, 1], [1, 1]]


def test_a_single_pixel_without_data_is_not_lost_to_rounding() -> None:
    grid = Grid(Axis(8192, 8192, 8192), Axis(8192, 8192, 8192))
    valid = np.ones((8192, 8192), bool)
    valid[5, 5] = False
    assert 0.999 < shares_of_data(grid, grid.chunks[0], valid)[0, 0] < 1


def test_overlapping_windows_are_resized_together() -> None:
    """Inside they are what each is by itself; along their edges their neighbourhood is known."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    grid = Grid(Axis(96, 32, 16), Axis(96, 32, 16))
    wanted = np.ones((5, 5), bool)
    together = cut(grid, grid.chunks[0], pixels, None, wanted, 16).astype(int)
    one_by_one = cut(grid, grid.chunks[0], pixels, np.ones((96, 96), bool), wanted, 16).astype(int)
    assert (together[:, 2:-2, 2:-2] == one_by_one[:, 2:-2, 2:-2]).all()
    assert (together != one_by_one).any() and (together[0, :-2, :-2] == one_by_one[0, :-2, :-2]).all()


def test_windows_that_fall_between_pixels_are_resized_one_by_one() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    grid = Grid(Axis(96, 32, 11), Axis(96, 32, 11))
    shape = (len(grid.chunks[0].rows), len(grid.chunks[0].columns))
    tiles = cut(grid, grid.chunks[0], pixels, None, np.ones(shape, bool), 16)
    assert (tiles[1] == decode(png(pixels[:32, 11:43]), "tile", 16).pixels).all()
