"""What may happen to images on their way to a model, in five degrees.

In the spirit of D. Hendrycks and T. Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019. The strengths of blur, brightness, noise, JPEG and resolution are those of their
Tiny-ImageNet-C, of 64 px; what is measured in pixels grows with the image. Colour cast and haze are of this project.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Images = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)
MEASURED_PX = 64  # side of the images that a width in pixels is stated for
AIRLIGHT = 220  # grey level of what haze adds


def blur(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Gaussian, as of an image out of focus."""
    sigma = (0.5, 0.75, 1.0, 1.25, 1.5)[severity - 1] * images.shape[1] / MEASURED_PX
    return _each(images, lambda image: image.filter(ImageFilter.GaussianBlur(sigma)))


def brightness(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Lighter by a constant, as of a longer exposure; what is too light is cut off."""
    return _rounded(images + np.float32(255 * (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]))


def noise(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Gaussian, independent in every pixel and channel."""
    deviation = np.float32(255 * (0.04, 0.08, 0.12, 0.15, 0.18)[severity - 1])
    return _rounded(images + deviation * rng.standard_normal(images.shape, np.float32))


def jpeg(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Saved as JPEG of this quality, with colours at half the resolution as usual."""
    quality = (65, 58, 50, 40, 25)[severity - 1]

    def compressed(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _each(images, compressed)


def colour_cast(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """More red and less blue, as of another white balance or a low sun."""
    cast = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    return _rounded(images * np.array([1 + cast, 1, 1 - cast], np.float32))


def haze(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """A share of the light replaced by that of the air in between, which is the same everywhere."""
    share = np.float32((0.15, 0.3, 0.45, 0.6, 0.7)[severity - 1])
    return _rounded(images * (1 - share) + AIRLIGHT * share)


def resolution(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Reduced to this share of the side and enlarged again, as of a sensor with larger pixels on the ground."""
    side = images.shape[1]
    reduced = max(1, round((0.9, 0.8, 0.7, 0.6, 0.5)[severity - 1] * side))
    return _each(images, lambda image: image.resize((reduced, reduced)).resize((side, side)))


Corruption = Callable[[Images, int, np.random.Generator], Images]
CORRUPTIONS: dict[str, Corruption] = {
    "blur": blur,
    "brightness": brightness,
    "noise": noise,
    "jpeg": jpeg,
    "colour cast": colour_cast,
    "haze": haze,
    "resolution": resolution,
}
"""Each takes images (N, S, S, 3) uint8 RGB, a severity of 1..5 and a generator, and returns images of that shape."""


def _each(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    changed = [np.asarray(change(Image.fromarray(image))) for image in images]
    return np.stack(changed) if changed else images


def _rounded(values: NDArray[Any]) -> Images:
    """To the nearest grey level of those there are."""
    levels: Images = np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
    return levels
