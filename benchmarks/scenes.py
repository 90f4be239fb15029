"""Scenes mosaicked from images of known classes, for what is measured of maps."""

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 256  # pixels of a tile, as of UC Merced's images
GSD = 0.3  # metres a pixel, likewise


class Tiles:
    """The images of a split in an archive, as squares of ``SIDE`` pixels."""

    def __init__(self, archive: str, split: str) -> None:
        """
        Args:
            archive: a zip file of images.
            split: a list of them, lines "relative/path,label", extension ignored.
        """
        self._file = zipfile.ZipFile(archive)
        names = [name for name in self._file.namelist() if not name.endswith("/")]
        found = {name.rsplit("/", 1)[-1].rpartition(".")[0]: name for name in names}
        with Path(split).open(newline="", encoding="utf-8") as file:
            rows = [
                (Path(row[0]).stem, row[1]) for row in csv.reader(file) if len(row) == 2 and Path(row[0]).stem in found
            ]
        self.names, self.labels = [found[stem] for stem, _ in rows], [label for _, label in rows]
        self.classes = sorted(set(self.labels))

    def image(self, number: int) -> NDArray[np.uint8]:
        """(SIDE, SIDE, 3); the few that are no such squares are cut and resized, once for all uses."""
        with self._file.open(self.names[number]) as file, Image.open(io.BytesIO(file.read())) as opened:
            picture = opened.convert("RGB")
        side = min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        return np.asarray(picture)

    def of_class(self, name: str) -> list[int]:
        """Numbers of the images of a class."""
        return [number for number, label in enumerate(self.labels) if label == name]


def mosaic(tiles: Tiles, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pixels (H * SIDE, W * SIDE, 3) of images laid out as ``numbers`` (H, W) says, and their classes (H, W)."""
    rows = [np.concatenate([tiles.image(int(number)) for number in row], axis=1) for row in numbers]
    truth = np.vectorize(lambda number: tiles.classes.index(tiles.labels[number]))(numbers)
    return np.concatenate(rows), truth


def write_scene(path: Path, strips: Sequence[NDArray[np.uint8]], repeats: int = 1) -> None:
    """A GeoTIFF in UTM of strips (h, W, 3) of equal height, from top to bottom, so many times over."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    height, width = len(strips) * repeats * strips[0].shape[0], strips[0].shape[1]
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", crs="EPSG:32611", tiled=True,
        transform=Affine(GSD, 0, 400_000, 0, -GSD, 3_700_000), blockxsize=512, blockysize=512, photometric="RGB",
        compress="DEFLATE", zlevel=1, predictor=2, bigtiff="IF_SAFER",
    ) as file:  # fmt: skip
        for number in range(len(strips) * repeats):
            strip = strips[number % len(strips)]
            file.write(np.moveaxis(strip, 2, 0), window=Window(0, number * len(strip), width, len(strip)))
