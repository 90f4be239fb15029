"""Corruptions do what their names say, the more the higher their severity, and the same each time."""

import numpy as np
import pytest
from PIL import Image

from landuse.monitoring.corruptions import CORRUPTIONS, SEVERITIES
from landuse.monitoring.statistics import NAMES, image_statistics


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Eight coloured scenes of 64 px with fine structure."""
    draws = np.random.default_rng(0)
    coarse = draws.integers(40, 200, (8, 12, 12, 3), dtype=np.uint8)
    large = np.stack([np.asarray(Image.fromarray(one).resize((64, 64))) for one in coarse])
    return np.clip(large + draws.normal(0, 6, (8, 64, 64, 1)), 0, 255).astype(np.uint8)


def change(name: str, images: np.ndarray, severity: int, seed: int = 0) -> np.ndarray:
    return CORRUPTIONS[name](images, severity, np.random.default_rng(seed))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_an_image_again_and_worse_by_severity(name: str, images: np.ndarray) -> None:
    original, distances = images.copy(), []
    for severity in SEVERITIES:
        changed = change(name, images, severity)
        assert changed.shape == images.shape and changed.dtype == np.uint8
        assert np.array_equal(changed, change(name, images, severity))
        distances.append(np.abs(changed.astype(float) - images).mean())
    assert np.array_equal(images, original)
    assert distances[0] > 0 and all(np.diff(distances) > 0)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_no_images_give_none(name: str, images: np.ndarray) -> None:
    assert change(name, images[:0], 3).shape == (0, 64, 64, 3)


@pytest.mark.parametrize(
    ("name", "statistic", "rises"),
    [
        ("blur", "sharpness", False), ("brightness", "green", True), ("noise", "noise", True),
        ("jpeg", "blockiness", True), ("colour cast", "red", True), ("colour cast", "blue", False),
        ("haze", "contrast", False), ("resolution", "fineness", False),
    ],
)  # fmt: skip
def test_each_moves_the_statistic_that_is_meant_for_it(
    name: str, statistic: str, rises: bool, images: np.ndarray
) -> None:
    column = NAMES.index(statistic)
    before, after = (image_statistics(some)[:, column] for some in (images, change(name, images, 3)))
    assert all((after > before) == rises)


def test_noise_has_the_stated_deviation_and_its_own_draws() -> None:
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    first, second = change("noise", grey, 1), change("noise", grey, 1, seed=1)
    assert first.std() == pytest.approx(0.04 * 255, rel=0.02)
    assert not np.array_equal(first, second)


def test_a_blur_grows_with_the_image(images: np.ndarray) -> None:
    """So that the same scene at twice the size is as blurred as at this one."""
    twice = images.repeat(2, axis=1).repeat(2, axis=2)
    small, large = change("blur", images, 3), change("blur", twice, 3)
    reduced = large.reshape(8, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(reduced - small).mean() < 0.25 * np.abs(small.astype(float) - images).mean()
