"""Scenes read band by band."""

import threading
from pathlib import Path

import numpy as np
import pytest

from landuse.errors import UserError
from landuse.mapping import bands
from landuse.mapping.bands import Tasks
from landuse.mapping.describe import Asked, describe
from landuse.mapping.plan import Axis, Grid
from landuse.mapping.preview import Preview
from landuse.mapping.scene import Reader, Scene
from tests.mapping.scenes import write

PICTURE = np.random.default_rng(0).integers(1, 256, (300, 500, 3), np.uint8)
PICTURE[100:110, 200:210] = 0
GRID = Grid(Axis(300, 32, 16), Axis(500, 32, 10))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return describe(str(write(tmp_path / "scene.tif", PICTURE, nodata=0)), Asked())


@pytest.mark.parametrize("most_px", [1, 20_000, 10**9])
def test_each_chunk_gets_its_pixels(scene: Scene, monkeypatch: pytest.MonkeyPatch, most_px: int) -> None:
    monkeypatch.setattr(bands, "BAND_BYTES", 3 * most_px)
    monkeypatch.setattr(bands, "AHEAD", 10_000)
    wanted = [chunk for chunk in GRID.chunks if chunk.number != 5]
    tasks = Tasks(scene, GRID, wanted, num_takers=1)
    tasks.read()
    seen = []
    while (task := tasks.take()) is not None:
        rows, columns = GRID.pixels_of(task.chunk)
        assert (task.pixels.colours == PICTURE[rows, columns]).all()
        valid = PICTURE[rows, columns].any(axis=2)
        assert (task.pixels.valid is None) == valid.all()  # whatever was read beside it
        assert (valid if task.pixels.valid is None else task.pixels.valid == valid).all()
        seen.append(task.chunk.number)
    assert sorted(seen) == [chunk.number for chunk in wanted]


def test_no_row_is_read_twice(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Reader.read
    rows: list[int] = []

    def spy(self: Reader, down: slice, across: slice) -> object:
        rows.extend(range(down.start, down.stop))
        return read(self, down, across)

    monkeypatch.setattr(Reader, "read", spy)
    with scene.opened() as reader:
        for _ in bands.read_bands(reader, bands.bands(GRID, GRID.chunks, 3)):
            pass
    assert rows == list(range(300))


def test_large_chunks_wait_in_smaller_numbers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(np.prod([part.stop - part.start for part in GRID.pixels_of(chunk)]) for chunk in GRID.chunks)
    monkeypatch.setattr(bands, "AHEAD_BYTES", 3 * int(largest) * 2)
    assert Tasks(scene, GRID, GRID.chunks, num_takers=1)._queue.maxsize == 2


def test_reading_ends_when_nobody_waits(scene: Scene) -> None:
    tasks = Tasks(scene, GRID, GRID.chunks, num_takers=1)
    thread = threading.Thread(target=tasks.read)
    thread.start()
    assert tasks.take() is not None
    tasks.is_closed.set()
    thread.join(10)
    assert not thread.is_alive() and tasks.take() is None


def test_a_damaged_scene_ends_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 500, 3), np.uint8)
    path = write(tmp_path / "scene.tif", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    grid = Grid(Axis(2000, 32, 32), Axis(500, 32, 32))
    with pytest.raises(UserError, match="cannot be read at row"):
        Tasks(describe(str(path), Asked()), grid, grid.chunks[:1] + grid.chunks[-1:], num_takers=1).read()


@pytest.mark.parametrize(("height", "width"), [(300, 500), (5000, 700), (1, 9000)])
def test_a_preview_is_put_together_from_chunks(height: int, width: int) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[...] = np.linspace(0, 255, width)[None, :, None]
    grid = Grid(Axis(height, 100, 30), Axis(width, 64, 64))
    preview = Preview(grid)
    whole, seen = np.zeros((*preview.shape, 3), np.uint8), np.zeros(preview.shape, int)
    for chunk in grid.chunks:
        rows, columns = grid.pixels_of(chunk)
        whole[preview.place(chunk)] = preview.shrink(chunk, picture[rows, columns])
        seen[preview.place(chunk)] += 1
    assert max(preview.shape) <= 2048 and (seen == 1).all()
    expected = np.linspace(0, 255, preview.shape[1])
    assert np.abs(whole[..., 0] - expected).max() < 3
