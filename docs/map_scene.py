"""Draw a scene to map, of the embedded dataset's kind: python docs/map_scene.py scene.tif

Regions of one class each, as in a landscape, put together from squares of 64 pixels that no training has seen; where
they lie on the ground (UTM, a metre a pixel) is made up.
"""

import sys
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from landuse.data.synthetic import draw_scene

SQUARE = 64  # pixels
COLUMNS, ROWS = 24, 16  # squares
SEED = 1  # the dataset has 0
# In the order of what one may expect from the lowest to the highest ground.
LANDSCAPE = ("river", "beach", "agricultural", "sparseresidential", "denseresidential", "forest", "chaparral")


def landscape(draws: np.random.Generator) -> NDArray[np.int64]:
    """(ROWS, COLUMNS) numbers of classes: a smooth field, cut into bands of equal area."""
    rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
    height = sum(
        np.cos(
            2 * np.pi * (draws.uniform(0.5, 1.2) * rows / ROWS + draws.uniform(-1.2, 1.2) * columns / COLUMNS) + phase
        )
        for phase in draws.uniform(0, 2 * np.pi, 4)
    )
    order = np.argsort(np.argsort(height, axis=None)).reshape(height.shape)
    return order * len(LANDSCAPE) // order.size


def main(path: Path) -> None:
    """Write it."""
    numbers = landscape(np.random.default_rng(SEED))
    rows = [
        np.concatenate([draw_scene(LANDSCAPE[n], SEED, COLUMNS * r + c, SQUARE) for c, n in enumerate(row)], axis=1)
        for r, row in enumerate(numbers)
    ]
    pixels = np.concatenate(rows)[SQUARE // 3 :, SQUARE // 3 :]  # windows do not lie on the squares, as in a real scene
    with rasterio.open(
        path, "w", driver="GTiff", width=pixels.shape[1], height=pixels.shape[0], count=3, dtype="uint8",
        crs="EPSG:32632", transform=Affine(1, 0, 500_000, 0, -1, 5_300_000), photometric="RGB", compress="DEFLATE",
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, 2, 0))
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "scene.tif"))
