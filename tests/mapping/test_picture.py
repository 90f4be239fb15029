"""The map as a picture, looked at as pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from landuse.mapping import picture
from landuse.mapping.picture import write_picture
from tests.mapping.maps import COLOURS, facts_of

WHITE = (255, 255, 255)


def made(folder: Path, classes: np.ndarray, facts: dict[str, Any] | None = None) -> np.ndarray:
    scene = np.full((*classes.shape, 3), 90, np.uint8)
    path = write_picture(scene, classes, facts or facts_of(classes), folder / "map.png")
    return np.asarray(Image.open(path).convert("RGB"))


def rgb(code: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(code[1:]))


def holds(image: np.ndarray, colour: tuple[int, ...]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=-1) <= 1).sum())


def test_classes_lie_over_the_scene_and_the_legend_has_their_full_colours(tmp_path: Path) -> None:
    classes = np.zeros((60, 60), np.uint8)
    classes[:20], classes[20:30] = 1, 254
    image = made(tmp_path, classes)
    side = picture.LONG_SIDE * 0.75 * picture.DPI
    for code, share in (
        (COLOURS[0], 1 / 2),
        (COLOURS[1], 1 / 3),
        (picture.legend(facts_of(classes))[-1]["colour"], 1 / 6),
    ):
        blended = tuple(round(picture.OPACITY * value + (1 - picture.OPACITY) * 90) for value in rgb(code))
        assert holds(image, blended) == pytest.approx(share * side**2, rel=0.02)
        assert 0 < holds(image, rgb(code)) < 3000  # a field of the legend
    assert holds(image, rgb(COLOURS[2])) == 0  # does not occur


def test_where_there_are_no_data_nothing_is_shown(tmp_path: Path) -> None:
    empty, full = (made(tmp_path, np.full((40, 40), value, np.uint8)) for value in (255, 0))
    side = round(picture.LONG_SIDE * 0.75 * picture.DPI)
    assert holds(empty, WHITE) - holds(full, WHITE) > 1.9 * side**2
    assert [entry.name for entry in picture._entries(np.full((2, 2), 255), facts_of(np.full((2, 2), 255)))] == [
        "no data"
    ]


@pytest.mark.parametrize("shape", [(50, 50), (40, 2048), (1500, 50), (1, 1)])
def test_any_shape_is_drawn_and_no_side_explodes(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = made(tmp_path, np.zeros(shape, np.uint8))
    assert 200 < image.shape[0] < 3000 and 600 < image.shape[1] < 3000


def test_forty_five_classes_have_a_line_each(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(45)]
    classes = np.arange(45, dtype=np.uint8).repeat(2).reshape(9, 10)
    facts = facts_of(classes, names=("a", "b", "c"))
    facts["classes"] = [
        {"value": i, "name": name, "colour": f"#{i:02x}80{255 - i:02x}"} for i, name in enumerate(names)
    ]
    facts["areas"] = [facts["areas"][0] | {"class": name, "value": i} for i, name in enumerate(names)]
    image = made(tmp_path, classes, facts)
    packed = image.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    for i in range(45):
        assert (packed == int(f"{i:02x}80{255 - i:02x}", 16)).sum() > 500
    assert image.shape[0] < 2000


@pytest.mark.parametrize(
    ("longest", "expected"), [(0.7, 0.5), (1, 1), (19.9, 10), (26, 20), (4999, 2000), (5000, 5000)]
)
def test_scales_are_round(longest: float, expected: float) -> None:
    assert picture._round_length(longest) == pytest.approx(expected)


def test_the_scale_is_as_long_as_it_says(tmp_path: Path) -> None:
    facts = facts_of(np.zeros((300, 300), np.uint8))
    with_scale = made(tmp_path, np.zeros((300, 300), np.uint8))
    facts["scene"]["pixel_size_m"] = None
    without = made(tmp_path, np.zeros((300, 300), np.uint8), facts)
    differing = np.abs(with_scale.astype(int) - without).max(axis=-1) > 100
    row = differing[np.flatnonzero(differing.sum(axis=1) >= differing.sum(axis=1).max())[0]]
    length = np.flatnonzero(row)  # 3,000 m in all, of which a third at most: 1 km
    panel = picture.LONG_SIDE * 0.75 * picture.DPI
    assert (row[length[0] : length[0] + round(panel / 3) - 2]).all()


def test_a_name_of_mathematics_is_text(tmp_path: Path) -> None:
    classes = np.zeros((20, 20), np.uint8)
    facts = facts_of(classes, names=("$x^{", "b", "c"))
    assert made(tmp_path, classes, facts).size
