"""Scenes for tests: rasters of plain colours that the tiny model tells apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from tests.serving.tiny_model import COLOURS

CLASSES = tuple(sorted(COLOURS))  # in the order of the model's
TILE = 16  # pixels
UTM = Affine(2.0, 0, 500_000, 0, -2.0, 5_000_000)


def colours(regions: Sequence[Sequence[str]], tile: int = TILE) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with one square of a class's colour for each name."""
    pixels = np.array([[COLOURS[name] for name in row] for row in regions], np.uint8)
    return pixels.repeat(tile, axis=0).repeat(tile, axis=1)


def truth(regions: Sequence[Sequence[str]], tile: int = TILE) -> NDArray[np.uint8]:
    """(H, W) numbers of the classes."""
    numbers = np.array([[CLASSES.index(name) for name in row] for row in regions], np.uint8)
    return numbers.repeat(tile, axis=0).repeat(tile, axis=1)


def write(
    path: Path, bands: NDArray[Any], transform: Affine | None = UTM, crs: str | None = "EPSG:32633", **profile: Any
) -> Path:
    """A raster of bands (B, H, W), or of a picture (H, W, 3) uint8."""
    if bands.ndim == 3 and bands.shape[2] == 3:
        bands = np.moveaxis(bands, 2, 0)
        profile = {"photometric": "RGB"} | profile if path.suffix == ".tif" else profile
    count, height, width = bands.shape
    named = {"crs": crs} if crs else {}
    placed = {"transform": transform} if transform else {}
    drivers = {".tif": "GTiff", ".png": "PNG", ".jp2": "JP2OpenJPEG"}
    with rasterio.open(
        path, "w", driver=drivers[path.suffix], width=width, height=height, count=count, dtype=bands.dtype, **named,
        **placed, **profile,
    ) as file:  # fmt: skip
        file.write(bands)
    return path
