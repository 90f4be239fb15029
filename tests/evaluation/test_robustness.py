"""Robustness, measured with a classifier that looks at the light alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from landuse.evaluation import robustness
from landuse.evaluation.robustness import NUM_PASSES, corrupted, measure
from landuse.monitoring.corruptions import CORRUPTIONS, SEVERITIES


def scene(n: int = 40) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Dark images (class 0) and light ones (class 1)."""
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 2, n)
    light = np.where(labels, 150, 70)[:, None, None, None] + draws.integers(-20, 21, (n, 16, 16, 3))
    return light.astype(np.uint8), labels


def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    light = images.mean(axis=(1, 2, 3)) / 255
    threshold = 110 / 255
    return np.stack([light < threshold, light >= threshold], axis=1).astype(np.float64)


def test_what_changes_the_light_costs_accuracy_and_nothing_else_does() -> None:
    images, labels = scene()
    result = measure(images, labels, 1.0, predict)
    assert result["accuracy"].keys() == CORRUPTIONS.keys() and result["severities"] == list(SEVERITIES)
    assert len(CORRUPTIONS) * len(SEVERITIES) == NUM_PASSES
    for name in ("blur", "jpeg", "resolution", "colour cast"):
        assert result["accuracy"][name] == [1.0] * 5
    share_of_light = float(labels.mean())
    assert result["accuracy"]["brightness"] == [1.0, *[share_of_light] * 4]  # by now all images count as light
    assert result["accuracy"]["haze"][-1] == share_of_light


def test_the_means_are_those_of_the_table() -> None:
    result = measure(*scene(), 0.9, predict)
    table = np.array(list(result["accuracy"].values()))
    assert result["mean"] == pytest.approx(table.mean(axis=0))
    assert result["mean_accuracy"] == pytest.approx(table.mean())
    assert (result["clean"], result["num_images"]) == (0.9, 40)


def test_many_images_are_corrupted_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = scene()
    seen: list[int] = []

    def counting(some: NDArray[np.uint8]) -> NDArray[np.float64]:
        seen.append(len(some))
        return predict(some)

    whole = measure(images, labels, 1.0, predict)
    monkeypatch.setattr(robustness, "AT_ONCE", 17 * images[0].nbytes - 1)
    assert measure(images, labels, 1.0, counting) == whole
    assert seen == [16, 16, 8] * NUM_PASSES


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("at_once", [1, 7])
def test_the_size_of_the_parts_changes_no_pixel(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(1).integers(0, 256, (10, 9, 9, 3), np.uint8)  # an odd number of values each
    (whole,) = corrupted(images, CORRUPTIONS[name], 3, 0)
    monkeypatch.setattr(robustness, "AT_ONCE", at_once * images[0].nbytes)
    parts = list(corrupted(images, CORRUPTIONS[name], 3, 0))
    assert {len(part) for part in parts} == ({1} if at_once == 1 else {7, 3})
    assert np.array_equal(np.concatenate(parts), whole)


def test_an_image_larger_than_a_part_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "AT_ONCE", 1)
    assert [len(part) for part in corrupted(scene(3)[0], CORRUPTIONS["haze"], 1, 0)] == [1, 1, 1]
