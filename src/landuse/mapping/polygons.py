"""The map of classes as polygons, each a region of one class, in a GeoPackage or as GeoJSON.

Everything is reckoned in pixel coordinates, where corners are whole numbers: rings close exactly, areas are counts of
pixels, and neighbours share their corners. Only what is written is carried to the scene's coordinates.
"""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landuse.errors import UserError
from landuse.files import rename, replacing
from landuse.mapping.ground import BLOCK
from landuse.mapping.scene import environment
from landuse.mapping.vectors import carried, write_geojson, write_geopackage

if TYPE_CHECKING:
    import rasterio

BATCH = 10_000  # polygons that are held as lists of points at once
ROWS_AT_ONCE = 256  # of the confidence

MOST_KEPT = 2**28  # bytes or so of rows that differ, beyond which a map is not condensed

FloatArray = NDArray[np.float64]
_Places = Callable[[FloatArray], FloatArray]  # corners (N, 2) as GDAL finds them -> columns and rows of the scene


@dataclass(frozen=True)
class _Regions:
    """All polygons of a map.

    Attributes:
        shapes: (N,) of shapely's, in columns and rows.
        values: (N,) of their classes.
    """

    shapes: NDArray[np.object_]
    values: NDArray[np.int64]


@dataclass(frozen=True)
class _Corners:
    """Where rings have corners, and with which sign: what :func:`_sums` adds up.

    Attributes:
        rows: (K,) int64.
        columns: (K,) int64.
        signs: (K,) of 1.0 and -1.0.
        rings: (K,) the ring of each.
        regions: (R,) the polygon of each ring.
        is_hole: (R,) whether it is one of its holes.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    signs: FloatArray
    rings: NDArray[np.int64]
    regions: NDArray[np.int64]
    is_hole: NDArray[np.bool_]


def write_polygons(
    classes: Path, confidence: Path, facts: dict[str, Any], block_areas: FloatArray | None, path: Path
) -> int:
    """Write the regions of one class that hang together by the sides of their pixels.

    Polygons are valid, do not overlap and cover what has data; their pixels and hectares add up to those of the raster.
    In a GeoPackage they are in the scene's coordinates, as GeoJSON in longitude and latitude. Of a scene that names no
    coordinate system they are in its own coordinates in both, and of one without any place on the ground in columns and
    negative rows, where QGIS shows such an image.

    Args:
        classes: the raster of classes.
        confidence: that of confidence, of the same shape.
        facts: of the map, as ``map.json`` has them.
        block_areas: square metres of a pixel of each block; None: nobody knows, so that polygons have no ``area_ha``.
        path: of the file to write, which ends in .gpkg or .geojson.

    Returns:
        How many polygons were written.

    Raises:
        UserError: ``path`` ends in something else, or GeoJSON is asked for of what is beyond the globe.
        OSError: the disk is full or the place cannot be written.
    """
    if path.suffix.lower() not in (".gpkg", ".geojson"):
        raise UserError(f"{path.name} is no kind of polygons: let it end in .gpkg or .geojson.")
    with environment():
        regions = _regions(classes, facts["nodata"])
        columns = _columns(regions, confidence, facts, block_areas)
    with replacing(path) as temporary, tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = Path(folder) / path.name  # GDAL goes by the suffix, and leaves journals beside what it could not end
        write = write_geojson if path.suffix.lower() == ".geojson" else write_geopackage
        write(written, regions.shapes, columns, facts)
        rename(written, temporary)
    return len(regions.values)


def _regions(classes: Path, nodata: int) -> _Regions:
    import rasterio.features
    import shapely

    batches: list[NDArray[np.object_]] = []
    values: list[int] = []
    rings: list[list[list[tuple[float, float]]]] = []
    with _opened(classes) as dataset:
        source, places = _condensed(dataset)
        for geometry, value in rasterio.features.shapes(source, connectivity=4):
            if int(value) == nodata:
                continue
            values.append(int(value))
            rings.append(geometry["coordinates"])
            if len(rings) == BATCH:
                batches.append(_polygons(rings, places))
                rings = []
    batches.append(_polygons(rings, places))
    shapes = np.concatenate(batches)
    is_broken = ~shapely.is_valid(shapes)  # a region that touches itself at a corner
    shapes[is_broken] = shapely.make_valid(shapes[is_broken])
    return _Regions(shapes, np.array(values, np.int64))


def _opened(path: Path) -> "rasterio.DatasetReader":
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def _condensed(dataset: "rasterio.DatasetReader") -> tuple[Any, _Places]:
    """What regions are looked for in, and where its corners lie.

    Rows and columns that repeat the one before say nothing new, and a map consists of cells of many of each: without
    them it is a thousandth of its size. A map that is speckled with nodata is read by GDAL as it is.
    """
    import rasterio
    from rasterio.windows import Window

    to_pixels = tuple(~dataset.transform)[:6]  # GDAL carries what it finds to the raster's own coordinates
    rows, kept, num_kept = [], [], 0
    changes = np.zeros(dataset.width, bool)
    last = None
    for start in range(0, dataset.height, ROWS_AT_ONCE):
        strip = dataset.read(1, window=Window(0, start, dataset.width, min(ROWS_AT_ONCE, dataset.height - start)))
        before = np.concatenate([strip[:1] + 1 if last is None else last, strip[:-1]])  # the first row is always new
        new = np.flatnonzero((strip != before).any(axis=1))
        changes[1:] |= (strip[new, 1:] != strip[new, :-1]).any(axis=0)
        rows.append(start + new)
        kept.append(strip[new])
        num_kept += kept[-1].size
        last = strip[-1:]
        if num_kept > MOST_KEPT:
            return rasterio.band(dataset, 1), lambda points: np.rint(carried(points, to_pixels))
    changes[0] = True
    row_edges = np.append(np.concatenate(rows), dataset.height).astype(np.float64)
    column_edges = np.append(np.flatnonzero(changes), dataset.width).astype(np.float64)

    def place(points: FloatArray) -> FloatArray:
        columns, lines = np.rint(points).astype(np.int64).T
        return np.stack([column_edges[columns], row_edges[lines]], axis=1)

    return np.concatenate(kept)[:, changes], place


def _polygons(coordinates: list[list[list[tuple[float, float]]]], places: _Places) -> NDArray[np.object_]:
    """Shapely's polygons of rings, the outer one first, in whole columns and rows."""
    import shapely

    rings = [np.asarray(ring) for polygon in coordinates for ring in polygon]
    if not rings:
        return np.empty(0, object)
    counts = np.cumsum([0, *map(len, rings)])
    parts = np.cumsum([0, *map(len, coordinates)])
    polygons: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, places(np.concatenate(rings)), (counts, parts)
    )
    return polygons


def _columns(
    regions: _Regions, confidence: Path, facts: dict[str, Any], block_areas: FloatArray | None
) -> dict[str, NDArray[Any]]:
    """The fields of the polygons."""
    import shapely

    names = {entry["value"]: entry["name"] for entry in facts["classes"]} | {facts["unclassified"]: "unclassified"}
    corners = _corners(regions.shapes)
    pixels = np.rint(shapely.area(regions.shapes)).astype(np.int64)
    with _opened(confidence) as dataset:
        sums = _sums(corners, _integral_of(dataset, corners), len(pixels))
    if block_areas is None:
        areas = np.full(len(pixels), np.nan)
    elif (block_areas == block_areas[0, 0]).all():
        areas = pixels * block_areas[0, 0]
    else:
        areas = _sums(corners, _integral_of_areas(block_areas, corners), len(pixels))
    return {
        "class": np.array([names[value] for value in regions.values.tolist()], object),
        "value": regions.values.astype(np.int32),
        "pixels": pixels,
        "area_ha": areas / 10_000,
        "confidence": np.clip(sums / np.maximum(pixels, 1), 0, 1),
    }


def _corners(shapes: NDArray[np.object_]) -> _Corners:
    import shapely

    rings, regions = shapely.get_rings(shapes, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    cells = np.rint(points).astype(np.int64)
    is_edge = (of_ring[1:] == of_ring[:-1]) & (cells[1:, 1] != cells[:-1, 1])  # downwards or upwards
    start, end = cells[:-1][is_edge], cells[1:][is_edge]
    both = np.concatenate([end, start])
    return _Corners(
        rows=both[:, 1],
        columns=both[:, 0],
        signs=np.repeat([1.0, -1.0], len(start)),
        rings=np.tile(of_ring[1:][is_edge], 2),
        regions=regions,
        is_hole=np.concatenate([[False], regions[1:] == regions[:-1]]) if len(regions) else np.zeros(0, bool),
    )


def _sums(corners: _Corners, integral: FloatArray, num_regions: int) -> FloatArray:
    """Sums of values over all pixels of each region.

    By Green's theorem the sum inside of a ring is that of the integral image at its corners, taken with the direction
    of its vertical sides: exact, and no raster of regions is needed.

    Args:
        integral: (K,) sum of the values above and to the left of each corner.
    """
    inside = np.abs(np.bincount(corners.rings, corners.signs * integral, len(corners.regions)))
    weights = np.where(corners.is_hole, -inside, inside)
    sums: FloatArray = np.bincount(corners.regions, weights, num_regions).astype(np.float64)
    return sums


def _integral_of(dataset: "rasterio.DatasetReader", corners: _Corners) -> FloatArray:
    """The integral image of a raster at corners, read by strips; NaN counts as nothing."""
    from rasterio.windows import Window

    order = np.argsort(corners.rows, kind="stable")
    rows, columns = corners.rows[order], corners.columns[order]
    found = np.zeros(len(order))
    above = np.zeros(dataset.width + 1)
    for start in range(0, dataset.height, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, dataset.height)
        strip = dataset.read(1, window=Window(0, start, dataset.width, stop - start))
        strip[np.isnan(strip)] = 0
        wanted, last = np.unique(np.append(rows[slice(*np.searchsorted(rows, [start + 1, stop]))], stop)), start
        for row in wanted.tolist():  # each sum of rows that ends where a corner is
            above[1:] += strip[last - start : row - start].sum(axis=0, dtype=np.float64).cumsum()
            here = slice(*np.searchsorted(rows, [row, row + 1]))
            found[here], last = above[columns[here]], row
    back = np.empty_like(found)
    back[order] = found
    return back


def _integral_of_areas(areas: FloatArray, corners: _Corners) -> FloatArray:
    """The integral image of the pixels' areas at corners; it is linear between those of blocks."""
    integral = np.zeros((areas.shape[0] + 1, areas.shape[1] + 1))
    integral[1:, 1:] = (areas * BLOCK**2).cumsum(0).cumsum(1)  # as if the last blocks were whole
    row, down = np.divmod(corners.rows, BLOCK)
    column, right = np.divmod(corners.columns, BLOCK)
    below, beside = (np.minimum(first + 1, size) for first, size in zip((row, column), areas.shape, strict=True))
    down, right = down / BLOCK, right / BLOCK
    upper = integral[row, column] * (1 - right) + integral[row, beside] * right
    lower = integral[below, column] * (1 - right) + integral[below, beside] * right
    values: FloatArray = upper * (1 - down) + lower * down
    return values
