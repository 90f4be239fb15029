"""Statistics of images against their definitions and against what is known of an image."""

import io

import numpy as np
import pytest
from PIL import Image

from landuse.monitoring.statistics import LARGEST_PX, NAMES, image_statistics


def of(images: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(NAMES, image_statistics(images).T, strict=True))


def noisy(n: int = 40, side: int = 64, deviation: float = 5.0, grey: float = 128.0) -> np.ndarray:
    values = np.random.default_rng(0).normal(grey, deviation, (n, side, side, 1))
    return np.clip(np.round(values), 0, 255).astype(np.uint8).repeat(3, axis=3)


def smooth(n: int = 20, side: int = 64) -> np.ndarray:
    """Low frequencies of random colours, as a photograph has them."""
    small = np.random.default_rng(1).integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in small])


def test_they_follow_their_definitions() -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    found, grey = of(images), images.astype(float).mean(axis=3)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    windows = np.lib.stride_tricks.sliding_window_view(grey, (3, 3), axis=(1, 2))
    noise = np.sqrt(np.pi / 2) / 6 * np.abs((windows * mask).sum(axis=(3, 4))).mean(axis=(1, 2))
    across, down = np.abs(np.diff(grey, axis=2)), np.abs(np.diff(grey, axis=1))
    sharpness = (across.mean(axis=(1, 2)) + down.mean(axis=(1, 2))) / 2
    borders = (across[:, :, [7, 15]].mean(axis=(1, 2)) + down[:, [7, 15]].mean(axis=(1, 2))) / 2
    tint = images[..., 0].astype(float) - images[..., 1]
    expected = {
        "red": images[..., 0].mean(axis=(1, 2)),
        "blue": images[..., 2].mean(axis=(1, 2)),
        "contrast": grey.std(axis=(1, 2)),
        "saturation": np.ptp(images, axis=3).mean(axis=(1, 2)),
        "sharpness": sharpness,
        "noise": noise,
        "fineness": (noise + 0.5) / (sharpness + 0.5),
        "blockiness": (borders + 0.5) / (sharpness + 0.5),
        "colour detail": np.abs(np.diff(tint, axis=1)).mean(axis=(1, 2)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("deviation", [3.0, 12.0])
def test_the_noise_of_a_flat_image_is_its_standard_deviation(deviation: float) -> None:
    found = of(noisy(deviation=deviation))
    assert found["noise"].mean() == pytest.approx(deviation, rel=0.02)
    assert found["contrast"].mean() == pytest.approx(deviation, rel=0.02)


def test_a_gradient_is_no_noise() -> None:
    ramp = np.arange(64, dtype=np.uint8)[None, :, None, None] + np.arange(64, dtype=np.uint8)[None, None, :, None]
    found = of(ramp.repeat(3, axis=3))
    assert found["noise"] == 0 and found["sharpness"] == 1


def test_jpeg_is_seen() -> None:
    images, saved = smooth(), []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=30)
        saved.append(np.asarray(Image.open(buffer)))
    before, after = of(images), of(np.stack(saved))
    assert before["blockiness"].max() < 1.2 < 1.4 < after["blockiness"].min()


@pytest.mark.parametrize("side", [8, 9, 16, 33])
def test_small_and_flat_images_have_them_too(side: int) -> None:
    found = image_statistics(np.full((2, side, side, 3), 7, np.uint8))
    assert found.shape == (2, len(NAMES)) and found.dtype == np.float32
    assert np.isfinite(found).all()


def test_they_do_not_depend_on_what_else_is_in_the_batch() -> None:
    images = np.random.default_rng(3).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)
    one_by_one = np.concatenate([image_statistics(image[None]) for image in images])
    assert np.array_equal(image_statistics(images), one_by_one)
    assert image_statistics(images[:0]).shape == (0, len(NAMES))


def test_of_large_images_the_centre_is_looked_at() -> None:
    side, border = LARGEST_PX + 64, 32
    images = np.random.default_rng(4).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    centre = images[:, border : border + LARGEST_PX, border : border + LARGEST_PX]
    assert np.array_equal(image_statistics(images), image_statistics(centre))
