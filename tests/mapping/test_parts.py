"""What was answered, kept on disk."""

from pathlib import Path

import numpy as np
import pytest

from landuse.errors import UserError
from landuse.mapping.parts import Answer, OpenPart, Part, Shard, joined
from landuse.mapping.plan import Axis, Grid
from landuse.mapping.preview import Preview

GRID = Grid(Axis(1000, 32, 16), Axis(700, 32, 16))
SHAPE = (len(GRID.rows.starts), len(GRID.columns.starts))
CLASSES = 3
WHAT = {"scene": "a", "stride": [16, 16]}
EVERYTHING = np.random.default_rng(0).random((*SHAPE, CLASSES + 1)).astype(np.float32)
PREVIEW = Preview(GRID)
PICTURE = np.random.default_rng(1).integers(0, 256, (*PREVIEW.shape, 3), np.uint8)


def fill(part: OpenPart, most: int | None = None) -> None:
    for chunk in part.pending()[:most]:
        rows, columns = (slice(part_.start, part_.stop) for part_ in (chunk.rows, chunk.columns))
        windows = EVERYTHING[rows, columns].reshape(chunk.num_windows, CLASSES + 1)
        part.write(chunk, Answer(windows, PICTURE[PREVIEW.place(chunk)]))


def make(folder: Path, shard: Shard, most: int | None = None) -> Part:
    part = Part(folder, shard, GRID, CLASSES)
    with part.opened(WHAT) as opened:
        fill(opened, most)
    return part


@pytest.mark.parametrize("of", [1, 3, 200])
def test_shards_divide_a_scene_and_are_joined(tmp_path: Path, of: int) -> None:
    numbers = [chunk.number for number in range(1, of + 1) for chunk in Shard(number, of).chunks(GRID)]
    assert numbers == list(range(len(GRID.chunks)))
    for number in range(1, of + 1):
        make(tmp_path, Shard(number, of))
    with joined(tmp_path, GRID, CLASSES, WHAT) as answers:
        for start, stop in ((0, 1), (5, 20), (7, 9), (0, SHAPE[0]), (SHAPE[0] - 1, SHAPE[0])):
            values, shares = answers.rows(slice(start, stop))
            assert (values == EVERYTHING[start:stop, :, :-1]).all() and (shares == EVERYTHING[start:stop, :, -1]).all()
        assert (answers.preview() == PICTURE).all()


def test_an_interrupted_part_goes_on(tmp_path: Path) -> None:
    part = make(tmp_path, Shard(), most=3)
    with part.opened(WHAT) as opened:
        assert [chunk.number for chunk in opened.pending()] == list(range(3, len(GRID.chunks)))
    with pytest.raises(UserError, match="not complete"), joined(tmp_path, GRID, CLASSES, WHAT):
        pass
    make(tmp_path, Shard())
    with joined(tmp_path, GRID, CLASSES, WHAT) as answers:
        assert (answers.rows(slice(0, 9))[0] == EVERYTHING[:9, :, :-1]).all()


@pytest.mark.parametrize("damage", ["cut", "flip", "zero"])
def test_a_damaged_slot_is_answered_again(tmp_path: Path, damage: str) -> None:
    part = make(tmp_path, Shard())
    content = bytearray(part.path.read_bytes())
    if damage == "cut":
        del content[-5:]
    elif damage == "flip":
        content[40] ^= 1
    else:
        content[:1000] = bytes(1000)
    part.path.write_bytes(content)
    with part.opened(WHAT) as opened:
        assert [chunk.number for chunk in opened.pending()] == [len(GRID.chunks) - 1 if damage == "cut" else 0]


def test_parts_of_something_else_are_refused(tmp_path: Path) -> None:
    part = make(tmp_path, Shard())
    other = WHAT | {"stride": [8, 8]}
    with pytest.raises(UserError, match=r"another stride \(\[16, 16\] then, \[8, 8\] now\)"), part.opened(other):
        pass
    with pytest.raises(UserError, match="another stride"), joined(tmp_path, GRID, CLASSES, other):
        pass


def test_two_processes_do_not_write_one_part(tmp_path: Path) -> None:
    part, other = (Part(tmp_path, Shard(), GRID, CLASSES) for _ in range(2))
    with part.opened(WHAT), pytest.raises(UserError, match="Another process"), other.opened(WHAT):
        pass


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no parts"), joined(tmp_path, GRID, CLASSES, WHAT):
        pass
    make(tmp_path, Shard(1, 3))
    with (
        pytest.raises(UserError, match="lacks part-2-of-3.bin, part-3-of-3.bin"),
        joined(tmp_path, GRID, CLASSES, WHAT),
    ):
        pass


def test_a_whole_set_is_preferred_to_a_begun_one(tmp_path: Path) -> None:
    make(tmp_path, Shard(1, 2))
    make(tmp_path, Shard())
    with joined(tmp_path, GRID, CLASSES, WHAT) as answers:
        assert (answers.rows(slice(0, 3))[0] == EVERYTHING[:3, :, :-1]).all()


def test_whole_parts_are_preferred_to_more_of_them(tmp_path: Path) -> None:
    """Two shards that were interrupted, and then one process that did it all."""
    make(tmp_path, Shard(1, 2), most=1)
    make(tmp_path, Shard(2, 2), most=1)
    with pytest.raises(UserError, match="is not complete"), joined(tmp_path, GRID, CLASSES, WHAT):
        pass
    make(tmp_path, Shard())
    with joined(tmp_path, GRID, CLASSES, WHAT) as answers:
        assert (answers.rows(slice(0, 3))[0] == EVERYTHING[:3, :, :-1]).all()


def test_answers_of_nobody_knows_what_are_not_joined(tmp_path: Path) -> None:
    part = make(tmp_path, Shard())
    part.path.with_suffix(".json").unlink()
    with pytest.raises(UserError, match="is damaged"), joined(tmp_path, GRID, CLASSES, WHAT):
        pass
    with part.opened(WHAT) as opened:
        assert len(opened.pending()) == len(GRID.chunks)


def test_a_part_is_completed_on_the_device_that_began_it(tmp_path: Path) -> None:
    part = make(tmp_path, Shard(), most=1)
    part.require_device("cuda")
    part.require_device("cuda")
    with pytest.raises(UserError, match="begun on cuda and would be completed on cpu.*trainer.device=cuda"):
        part.require_device("cpu")


def test_a_damaged_description(tmp_path: Path) -> None:
    part = make(tmp_path, Shard())
    part.path.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match="is damaged"), part.opened(WHAT):
        pass
