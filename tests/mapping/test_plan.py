"""Windows, chunks and cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landuse.mapping.plan import CHUNK_COLUMNS, CHUNK_PX, CHUNK_ROWS, Axis, Grid, blend


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    tile = draw(st.integers(1, 300))
    return Axis(draw(st.integers(1, 1500)), tile, draw(st.integers(1, tile)))


@settings(deadline=None, max_examples=200)
@given(axes())
def test_windows_and_cells_cover_a_scene(axis: Axis) -> None:
    starts, edges = axis.starts, axis.edges
    assert starts[0] == 0 and (np.diff(starts) > 0).all() and (np.diff(starts) <= axis.stride).all()
    assert starts[-1] + axis.tile == max(axis.length, axis.tile)
    assert edges[0] == 0 and edges[-1] == axis.length and (np.diff(edges) > 0).all()
    windows, weights = axis.covering
    assert (weights.sum(axis=1) > 0).all()  # each cell has a window
    centres = (edges[:-1] + edges[1:]) / 2
    for cell in range(0, len(centres), max(1, len(centres) // 7)):
        covering = {i for i, start in enumerate(starts) if start < centres[cell] < start + axis.tile}
        assert covering == {int(i) for i, weight in zip(windows[cell], weights[cell], strict=True) if weight > 0}


@settings(deadline=None, max_examples=200)
@given(axes(), st.data())
def test_pixels_cells_and_windows_of_a_strip(axis: Axis, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis.length - 1))
    stop = data.draw(st.integers(start + 1, axis.length))
    cells = axis.cells_of(start, stop)
    assert axis.edges[cells.start] <= start < axis.edges[cells.start + 1]
    assert axis.edges[cells.stop - 1] < stop <= axis.edges[cells.stop]
    repeats = axis.repeats(cells, start, stop)
    assert len(repeats) == cells.stop - cells.start and repeats.sum() == stop - start
    windows = axis.windows_of(cells)
    assert 0 <= windows.start < windows.stop <= len(axis.starts)


def test_without_overlap_each_cell_has_one_window() -> None:
    axis = Axis(1024, 256, 256)
    assert axis.starts.tolist() == [0, 256, 512, 768]
    windows, weights = axis.covering
    assert ((weights > 0).sum(axis=1) == 1).all()
    assert windows[weights > 0].tolist() == np.repeat(range(4), 8).tolist()


def test_half_overlapping_windows_weigh_one_everywhere() -> None:
    weights = Axis(4096, 256, 128).covering[1].sum(axis=1)
    inner = slice(4, -4)  # the outermost half tiles have one window
    assert weights[inner] == pytest.approx(1, abs=1e-6)


def test_the_last_window_ends_with_the_scene() -> None:
    assert Axis(1000, 256, 256).starts.tolist() == [0, 256, 512, 744]
    assert Axis(100, 256, 128).starts.tolist() == [0]


@pytest.mark.parametrize(("length", "tile", "stride"), [(0, 4, 2), (10, 4, 5), (10, 4, 0)])
def test_no_grid(length: int, tile: int, stride: int) -> None:
    with pytest.raises(ValueError, match="no grid"):
        Axis(length, tile, stride)


@settings(deadline=None, max_examples=60)
@given(axes(), axes())
def test_chunks_divide_the_windows(rows: Axis, columns: Axis) -> None:
    grid = Grid(rows, columns)
    seen = np.zeros((len(rows.starts), len(columns.starts)), int)
    for number, chunk in enumerate(grid.chunks):
        assert chunk.number == number and chunk.num_windows <= CHUNK_ROWS * CHUNK_COLUMNS
        seen[chunk.rows.start : chunk.rows.stop, chunk.columns.start : chunk.columns.stop] += 1
        for pixels, axis in zip(grid.pixels_of(chunk), (rows, columns), strict=True):
            assert 0 <= pixels.start < pixels.stop <= axis.length
            assert pixels.stop - pixels.start <= max(CHUNK_PX, axis.tile)
    assert (seen == 1).all() and grid.num_windows == seen.size


def blended(grid: Grid, values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Of the whole scene, in strips of seven rows of cells."""
    last = len(grid.rows.edges) - 1
    parts = []
    for start in range(0, last, 7):
        cells = slice(start, min(start + 7, last))
        windows = grid.rows.windows_of(cells)
        parts.append(blend(values[windows], shares[windows], grid.rows, grid.columns, cells))
    return np.concatenate(parts)


def test_blend_is_the_weighted_mean_of_what_covers_a_cell() -> None:
    grid = Grid(Axis(700, 128, 48), Axis(900, 100, 100))
    shape = (len(grid.rows.starts), len(grid.columns.starts))
    draws = np.random.default_rng(0)
    values, shares = draws.random((*shape, 3)).astype(np.float32), draws.random(shape).astype(np.float32)
    found = blended(grid, values, shares)
    assert found.shape == (len(grid.rows.edges) - 1, len(grid.columns.edges) - 1, 3)
    for i, j in ((0, 0), (20, 13), (found.shape[0] - 1, found.shape[1] - 1)):
        total, weight = np.zeros(3), 0.0
        centre = [(axis.edges[k] + axis.edges[k + 1]) / 2 for axis, k in ((grid.rows, i), (grid.columns, j))]
        for r, top in enumerate(grid.rows.starts):
            for c, left in enumerate(grid.columns.starts):
                y, x = (centre[0] - top) / 128, (centre[1] - left) / 100
                if 0 < y < 1 and 0 < x < 1:
                    w = np.sin(np.pi * y) ** 2 * np.sin(np.pi * x) ** 2 * shares[r, c]
                    total, weight = total + w * values[r, c], weight + w
        assert found[i, j] == pytest.approx(total / weight, rel=1e-4)


def test_blend_of_one_window_is_that_window() -> None:
    grid = Grid(Axis(256, 64, 64), Axis(256, 64, 64))
    values = np.random.default_rng(0).random((4, 4, 5)).astype(np.float32)
    found = blended(grid, values, np.ones((4, 4), np.float32))
    assert found == pytest.approx(values.repeat(8, axis=0).repeat(8, axis=1), rel=1e-6)


def test_blend_passes_over_windows_without_data() -> None:
    grid = Grid(Axis(128, 64, 64), Axis(128, 64, 64))
    values = np.ones((2, 2, 2), np.float32)
    values[0, 0] = np.nan
    found = blended(grid, values, np.array([[0, 1], [1, 1]], np.float32))
    assert np.isnan(found[:8, :8]).all() and (found[8:] == 1).all() and (found[:, 8:] == 1).all()
