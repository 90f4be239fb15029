"""The map as two Cloud-Optimised GeoTIFFs on the scene's own grid: classes, and how sure the model is of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landuse.addresses import named
from landuse.data.workers import num_workers
from landuse.errors import UserError
from landuse.files import replacing
from landuse.mapping.ground import BLOCK
from landuse.mapping.parts import Answers
from landuse.mapping.plan import Grid, blend
from landuse.mapping.scene import Reader, Scene, environment, writing

MASK_BYTES = 32 * 2**20  # of a scene whose mask is read at once
UNCLASSIFIED = "unclassified"


class Values(NamedTuple):
    """What the numbers in classes.tif mean: below the classes' count an index into them, and these two."""

    dtype: str
    nodata: int
    unclassified: int


def values_for(num_classes: int) -> Values:
    """8 bits where they are enough."""
    return Values("uint8", 255, 254) if num_classes <= 254 else Values("uint16", 65_535, 65_534)


@dataclass
class Counts:
    """Of the pixels of each class, and of the unclassified behind them.

    Attributes:
        pixels: int64, (C + 1,).
        square_metres: float64, (C + 1,); None: nobody knows what a pixel measures.
    """

    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64] | None


class Strip(NamedTuple):
    """All columns of some rows of the map."""

    rows: slice
    classes: NDArray[Any]  # (H, W), of the dtype of Values
    confidence: NDArray[np.float32]  # (H, W), NaN where there are no data


def strips(reader: Reader, grid: Grid, answers: Answers, values: Values, min_confidence: float) -> Iterator[Strip]:
    """The map from top to bottom, BLOCK rows at a time.

    Raises:
        UserError: the scene cannot be read any more, or what was said of it.
    """
    height = reader.scene.height
    for start in range(0, height, BLOCK):
        yield _strip(reader, grid, answers, values, min_confidence, slice(start, min(start + BLOCK, height)))


def _strip(reader: Reader, grid: Grid, answers: Answers, values: Values, min_confidence: float, rows: slice) -> Strip:
    width = reader.scene.width
    cells = grid.rows.cells_of(rows.start, rows.stop)
    said, shares = answers.rows(grid.rows.windows_of(cells))
    blended = blend(said, shares, grid.rows, grid.columns, cells)
    is_there = np.isfinite(blended[..., 0])
    confidence = np.where(is_there, blended.max(axis=2), np.nan).astype(np.float32)
    classes = np.where(is_there, np.nan_to_num(blended).argmax(axis=2), values.nodata)
    classes[confidence < min_confidence] = values.unclassified
    down = grid.rows.repeats(cells, rows.start, rows.stop)
    across = grid.columns.repeats(slice(0, len(grid.columns.edges) - 1), 0, width)
    strip = Strip(
        rows,
        classes.astype(values.dtype).repeat(across, axis=1).repeat(down, axis=0),
        confidence.repeat(across, axis=1).repeat(down, axis=0),
    )
    if (shares < 1).any():
        _cut_out(reader, strip, values)
    return strip


def _cut_out(reader: Reader, strip: Strip, values: Values) -> None:
    """Give a strip the nodata of the scene, read in whole rows as files hold them."""
    width, rows = reader.scene.width, strip.rows
    every = max(1, MASK_BYTES // (width * reader.scene.pixel_bytes))
    for start in range(rows.start, rows.stop, every):
        part = slice(start, min(start + every, rows.stop))
        if (valid := reader.valid(part, slice(0, width))) is not None:
            own = slice(part.start - rows.start, part.stop - rows.start)
            strip.classes[own][~valid] = values.nodata
            strip.confidence[own][~valid] = np.nan


def count(strip: Strip, values: Values, num_classes: int, counts: Counts, areas: NDArray[np.float64] | None) -> None:
    """Add a strip's pixels and their areas to what was counted.

    Args:
        areas: square metres of a pixel of each of the strip's blocks; None: nobody knows.
    """
    for block, start in enumerate(range(0, strip.classes.shape[1], BLOCK)):
        found = _histogram(strip.classes[:, start : start + BLOCK], values.nodata + 1)
        pixels = np.append(found[:num_classes], found[values.unclassified])
        counts.pixels += pixels
        if counts.square_metres is not None and areas is not None:
            counts.square_metres += pixels * areas[block]


def _histogram(block: NDArray[Any], num_values: int) -> NDArray[np.int64]:
    """How many pixels have each of so many values, of bytes each of 256; those Pillow counts faster than NumPy."""
    if block.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(block)).histogram(), np.int64)
    return np.bincount(block.ravel(), minlength=num_values)


def write_rasters(
    scene: Scene,
    strips: Iterator[Strip],
    values: Values,
    classes: Sequence[str],
    colours: Mapping[int, tuple[int, int, int]],
    folder: Path,
    areas: NDArray[np.float64] | None,
) -> Counts:
    """Write ``classes.tif`` and ``confidence.tif``, and count on the way.

    Args:
        colours: of the values, RGB.
        areas: square metres of a pixel of each block, (rows of blocks, columns of blocks); None: nobody knows.

    Raises:
        UserError: as :func:`strips`, or nothing holds data.
        OSError: they cannot be written.
    """
    num_values = len(classes) + 1
    counts = Counts(np.zeros(num_values, np.int64), None if areas is None else np.zeros(num_values))
    with _scratch(folder, "classes") as class_strips, _scratch(folder, "confidence") as confidence_strips:
        with (
            _created(scene, class_strips, values.dtype, values.nodata) as class_file,
            _created(scene, confidence_strips, "float32", np.nan) as confidence_file,
        ):
            class_file.write_colormap(1, {value: (*colour, 255) for value, colour in colours.items()})
            class_file.update_tags(1, **_names(classes, values))
            class_file.set_band_description(1, "land use")
            confidence_file.set_band_description(1, "confidence")
            for strip in strips:
                window = _window(strip.rows, scene.width)
                class_file.write(strip.classes, 1, window=window)
                confidence_file.write(strip.confidence, 1, window=window)
                count(strip, values, len(classes), counts, None if areas is None else areas[strip.rows.start // BLOCK])
        if not counts.pixels.sum():
            raise UserError(
                f"{named(scene.path)} holds no data: all of its pixels are nodata, so there is nothing to map."
            )
        _write_cog(class_strips, folder / "classes.tif")
        _write_cog(confidence_strips, folder / "confidence.tif")
    with replacing(folder / "classes.tif.aux.xml") as temporary:
        temporary.write_text(_category_names(classes), encoding="utf-8", newline="\n", errors="replace")
    return counts


def _names(classes: Sequence[str], values: Values) -> dict[str, str]:
    return {f"CLASS_{value}": name for value, name in enumerate(classes)} | {
        f"CLASS_{values.unclassified}": UNCLASSIFIED
    }


def _category_names(classes: Sequence[str]) -> str:
    """The names as GDAL's sidecar file has them, for gdalinfo and GIS; a TIFF has no place of its own for them."""
    legible = ("".join(c if c.isprintable() else "\ufffd" for c in name) for name in classes)  # no control characters
    listed = "".join(f"      <Category>{escape(name)}</Category>\n" for name in legible)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{listed}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )


def _window(rows: slice, width: int) -> Any:
    from rasterio.windows import Window

    return Window(0, rows.start, width, rows.stop - rows.start)


@contextmanager
def _scratch(folder: Path, name: str) -> Iterator[Path]:
    """A name for a file that is gone at the end."""
    path = folder / f".{name}.strips.tif"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _created(scene: Scene, path: Path, dtype: str, nodata: float) -> Iterator[Any]:
    """A GeoTIFF on the scene's grid, open for writing."""
    import rasterio
    from affine import Affine

    profile = {
        "driver": "GTiff", "width": scene.width, "height": scene.height, "count": 1, "dtype": dtype, "nodata": nodata,
        "crs": scene.crs, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "ZSTD", "zstd_level": 1,
        "bigtiff": "IF_SAFER",
    }  # fmt: skip
    if scene.transform is not None:
        profile["transform"] = Affine(*scene.transform)
    with writing(path), environment(), rasterio.open(path, mode="w", **profile) as file:
        yield file


def _write_cog(strips: Path, target: Path) -> None:
    """The cloud-optimised file of one that was written in strips: overviews in front, in blocks.

    Overviews take every second pixel: a mean of classes is none, and pixels of a cell are equal.
    """
    import rasterio
    from rasterio.shutil import copy

    options = {"compress": "DEFLATE", "blocksize": BLOCK, "num_threads": num_workers(), "bigtiff": "IF_SAFER"}
    with replacing(target) as temporary, writing(target), environment():
        copy(strips, temporary, driver="COG", overview_resampling="NEAREST", **options)
        with rasterio.open(temporary) as written:  # whole to its end: the full resolution comes last
            written.read(1, window=_window(slice(written.height - 1, written.height), written.width))
