"""Numbers that tell how an image was made rather than what it shows: light, colour, sharpness, noise, compression.

They are computed for every image that is served, so they must cost little beside the model: see :data:`LARGEST_PX`.
"""

import math

import numpy as np
from numpy.typing import NDArray

NAMES = (
    "red", "green", "blue", "contrast", "saturation", "sharpness", "noise", "fineness", "blockiness", "colour detail",
)  # fmt: skip
LARGEST_PX = 96  # of larger images the centre of this size is looked at, which bounds the time
CHUNK_PX = 2**15  # pixels at once: what stays in a core's cache
BLOCK_PX = 8  # JPEG transforms blocks of this size
FLAT = 0.5  # grey levels; added to both sides of a quotient, so that an image without any structure has one too


def image_statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Statistics (N, K) float32 of images (N, S, S, 3) uint8 RGB, S >= 8; columns as in :data:`NAMES`.

    red, green, blue: means, 0..255.
    contrast: standard deviation of the grey levels, where grey is the mean of the channels.
    saturation: mean distance between the largest and the smallest channel.
    sharpness: mean absolute difference of neighbouring grey levels.
    noise: standard deviation of the noise in grey levels as J. Immerkaer estimates it ("Fast noise variance
        estimation", CVIU 64, 1996): the response to a filter that is blind to constant and linear structure.
    fineness: noise by sharpness. Lower where an image was blurred or enlarged, higher where noise was added.
    blockiness: differences across the borders of 8 x 8 blocks by all differences; 1 without JPEG's blocks.
    colour detail: mean absolute difference of neighbours in red minus green. JPEG halves the resolution of colours.
    """
    side = images.shape[1]
    if side > LARGEST_PX:
        start = (side - LARGEST_PX) // 2 // BLOCK_PX * BLOCK_PX  # keeps the borders of blocks where they were
        images = images[:, start : start + LARGEST_PX, start : start + LARGEST_PX]
    step = max(1, CHUNK_PX // images.shape[1] ** 2)
    parts = [_statistics(images[i : i + step]) for i in range(0, len(images), step)]
    return np.concatenate(parts) if parts else np.empty((0, len(NAMES)), np.float32)


def _statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    red, green, blue = images.transpose(3, 0, 1, 2).astype(np.int16, order="C")
    grey = red + green + blue  # 0..765: three times the grey level, in whole numbers; no filter below leaves 16 bits
    saturation = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    across, down = np.abs(grey[:, :, 1:] - grey[:, :, :-1]), np.abs(grey[:, 1:] - grey[:, :-1])
    sharpness = (_mean(across) + _mean(down)) / 6
    # Immerkaer's mask is the product of the second difference along the rows and that along the columns.
    curvature = grey[:, 2:] + grey[:, :-2] - 2 * grey[:, 1:-1]
    curvature = curvature[:, :, 2:] + curvature[:, :, :-2] - 2 * curvature[:, :, 1:-1]
    noise = math.sqrt(math.pi / 2) / 6 * _mean(np.abs(curvature)) / 3
    borders = slice(BLOCK_PX - 1, None, BLOCK_PX)
    at_borders = (_mean(across[:, :, borders]) + _mean(down[:, borders])) / 6
    tint = red - green
    columns = [
        _mean(red), _mean(green), _mean(blue), _deviation(grey) / 3, _mean(saturation), sharpness, noise,
        (noise + FLAT) / (sharpness + FLAT), (at_borders + FLAT) / (sharpness + FLAT),
        _mean(np.abs(tint[:, 1:] - tint[:, :-1])),
    ]  # fmt: skip
    return np.stack(columns, axis=1, dtype=np.float32)


def _mean(values: NDArray[np.int16]) -> NDArray[np.float64]:
    """Of each image."""
    rows = values.reshape(len(values), -1)
    sums: NDArray[np.int32] = rows.sum(axis=1, dtype=np.int32)
    return sums / max(1, rows.shape[1])  # images of 8 px have no border of blocks inside


def _deviation(values: NDArray[np.int16]) -> NDArray[np.float64]:
    """Standard deviation within each image."""
    rows = values.reshape(len(values), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    variance: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows).astype(np.float64) / rows.shape[1]
    return np.sqrt(variance)
