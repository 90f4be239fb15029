"""The map of classes as polygons, each a region of one class, in a GeoPackage or as GeoJSON.

Everything is reckoned in pixel coordinates, where corners are whole numbers: rings close exactly, areas are counts of
pixels, and neighbours share their corners. Only what is written is carried to the scene's coordinates.
"""

import json
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landuse.errors import UserError
from landuse.files import rename, replacing
from landuse.mapping.ground import BLOCK, Ground
from landuse.mapping.scene import environment

if TYPE_CHECKING:
    import rasterio

BATCH = 10_000  # polygons that are held in whole, or written, at once
ROWS_AT_ONCE = 256  # of the confidence
EDGE_PX = 256  # straight lines of a projection are bent in degrees: no longer ones are carried there
DEGREE_DIGITS = 9  # a tenth of a millimetre
LONGITUDE_LATITUDE = "OGC:CRS84"  # EPSG:4326 in this order
LAYER = "landuse"
VERSION = "1.2"  # of GeoPackages, that older programs read as well without a warning
FIELDS = ("class", "value", "pixels", "area_ha", "confidence")
PIXEL_NOTE = "The scene has no place on the ground: x is the column of a pixel and y its row, counted downwards from 0."
UNKNOWN_NOTE = "The scene names no coordinate system: x and y are in its own coordinates."

FloatArray = NDArray[np.float64]


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


def write_polygons(classes: Path, confidence: Path, facts: dict[str, Any], ground: Ground | None, path: Path) -> int:
    """Write the regions of one class that hang together by the sides of their pixels.

    Polygons are valid, do not overlap and cover what has data; their pixels and hectares add up to those of the raster.
    In a GeoPackage they are in the scene's coordinates, as GeoJSON in longitude and latitude, of a scene that names no
    coordinate system in its own ones, and without any place on the ground in columns and negative rows, both times.

    Args:
        classes: the raster of classes.
        confidence: that of confidence, of the same shape.
        facts: of the map, as ``map.json`` has them.
        ground: where the scene lies; None: nobody knows, so that polygons have no ``area_ha``.
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
        columns = _columns(regions, confidence, facts, ground)
    with replacing(path) as temporary, tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = Path(folder) / path.name  # GDAL goes by the suffix, and leaves journals beside what it could not end
        (_write_geojson if path.suffix.lower() == ".geojson" else _write_geopackage)(written, regions, columns, facts)
        rename(written, temporary)
    return len(regions.values)


def _regions(classes: Path, nodata: int) -> _Regions:
    import rasterio
    import rasterio.features
    import shapely
    from rasterio.errors import NotGeoreferencedWarning

    batches: list[NDArray[np.object_]] = []
    values: list[int] = []
    rings: list[list[list[tuple[float, float]]]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(classes)
    with dataset:
        to_pixels = tuple(~dataset.transform)[:6]  # GDAL carries what it finds to the raster's own coordinates
        for geometry, value in rasterio.features.shapes(rasterio.band(dataset, 1), connectivity=4):
            if int(value) == nodata:
                continue
            values.append(int(value))
            rings.append(geometry["coordinates"])
            if len(rings) == BATCH:
                batches.append(_polygons(rings, to_pixels))
                rings = []
    batches.append(_polygons(rings, to_pixels))
    shapes = np.concatenate(batches)
    is_broken = ~shapely.is_valid(shapes)  # a region that touches itself at a corner
    shapes[is_broken] = shapely.make_valid(shapes[is_broken])
    return _Regions(shapes, np.array(values, np.int64))


def _polygons(coordinates: list[list[list[tuple[float, float]]]], to_pixels: Sequence[float]) -> NDArray[np.object_]:
    """Shapely's polygons of rings, the outer one first, in whole columns and rows."""
    import shapely

    rings = [np.asarray(ring) for polygon in coordinates for ring in polygon]
    if not rings:
        return np.empty(0, object)
    counts = np.cumsum([0, *map(len, rings)])
    parts = np.cumsum([0, *map(len, coordinates)])
    polygons: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, np.rint(_carried(np.concatenate(rings), to_pixels)), (counts, parts)
    )
    return polygons


def _columns(
    regions: _Regions, confidence: Path, facts: dict[str, Any], ground: Ground | None
) -> dict[str, NDArray[Any]]:
    """The fields of the polygons."""
    import rasterio
    import shapely
    from rasterio.errors import NotGeoreferencedWarning

    names = {entry["value"]: entry["name"] for entry in facts["classes"]} | {facts["unclassified"]: "unclassified"}
    corners = _corners(regions.shapes)
    pixels = np.rint(shapely.area(regions.shapes)).astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(confidence)
    with dataset:
        sums = _sums(corners, _integral_of(dataset, corners), len(pixels))
    if ground is None:
        areas = np.full(len(pixels), np.nan)
    elif ground.is_planar:
        areas = pixels * float(ground.pixel_areas(np.zeros(1), np.zeros(1))[0])
    else:
        areas = _sums(corners, _integral_of_areas(ground, corners), len(pixels))
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
        strip = np.nan_to_num(dataset.read(1, window=Window(0, start, dataset.width, stop - start)))
        wanted, last = np.unique(np.append(rows[slice(*np.searchsorted(rows, [start + 1, stop]))], stop)), start
        for row in wanted.tolist():  # each sum of rows that ends where a corner is
            above[1:] += strip[last - start : row - start].sum(axis=0, dtype=np.float64).cumsum()
            here = slice(*np.searchsorted(rows, [row, row + 1]))
            found[here], last = above[columns[here]], row
    back = np.empty_like(found)
    back[order] = found
    return back


def _integral_of_areas(ground: Ground, corners: _Corners) -> FloatArray:
    """The integral image of the pixels' areas at corners; it is linear between those of blocks."""
    areas = ground.block_areas()
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


def _note(facts: dict[str, Any]) -> str:
    scene = facts["scene"]
    if scene["crs"]:
        return "Land use by class; area_ha in hectares on the ground, confidence as the mean of 0 to 1."
    return PIXEL_NOTE if scene["transform"] is None else UNKNOWN_NOTE


def _placed(points: FloatArray, facts: dict[str, Any]) -> FloatArray:
    """Coordinates of the scene for columns and rows, (N, 2) both."""
    return _carried(points, facts["scene"]["transform"] or (1, 0, 0, 0, -1, 0))


def _carried(points: FloatArray, affine: Sequence[float]) -> FloatArray:
    """Points after an affine transform of six numbers, (N, 2) both."""
    a, b, c, d, e, f = affine
    x, y = points.T
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _batches(regions: _Regions) -> Iterator[slice]:
    for start in range(0, len(regions.values), BATCH):
        yield slice(start, min(start + BATCH, len(regions.values)))


def _write_geopackage(path: Path, regions: _Regions, columns: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Write and look whether all of it arrived: what fails while SQLite ends a transaction is not always reported.

    Raises:
        OSError: it did not.
    """
    import pyogrio
    import shapely

    options: dict[str, Any] = {
        "layer": LAYER, "driver": "GPKG", "geometry_type": "Polygon", "crs": facts["scene"]["crs"], "fields": FIELDS,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        try:
            for part in [*_batches(regions)] or [slice(0, 0)]:
                shapes = shapely.transform(regions.shapes[part], lambda points: _placed(points, facts))
                data = [columns[name][part] for name in FIELDS]
                masks = [np.isnan(values) if values.dtype.kind == "f" else None for values in data]
                more = (
                    {"append": True}
                    if part.start
                    else {"DESCRIPTION": _note(facts), "IDENTIFIER": LAYER, "VERSION": VERSION}
                )
                pyogrio.raw.write(path, shapely.to_wkb(shapes), data, field_mask=masks, **options, **more)
            num_written = pyogrio.read_info(path, layer=LAYER, force_feature_count=True)["features"]
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError,
                pyogrio.errors.GeometryError, RuntimeError) as error:  # fmt: skip
            raise OSError(f"{path.name} cannot be written: {' '.join(str(error).split())[:300]}") from error
    if num_written != len(regions.values):
        raise OSError(f"{path.name} cannot be written: {num_written} of {len(regions.values)} polygons arrived")


def _write_geojson(path: Path, regions: _Regions, columns: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Write a feature collection as RFC 7946 wants it: longitude before latitude, outer rings counterclockwise."""
    head = {"type": "FeatureCollection", "name": LAYER, "description": _note(facts)}
    with path.open("w", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        separator = "\n"
        for part in _batches(regions):
            rows = zip(*(columns[name][part].tolist() for name in FIELDS), strict=True)
            for geometry, row in zip(_geometries(regions.shapes[part], facts), rows, strict=True):
                values = (None if isinstance(value, float) and math.isnan(value) else value for value in row)
                feature = {
                    "type": "Feature", "properties": dict(zip(FIELDS, values, strict=True)), "geometry": geometry,
                }  # fmt: skip
                file.write(separator + json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
                separator = ",\n"
        file.write("\n]}\n")


def _geometries(shapes: NDArray[np.object_], facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What GeoJSON calls a geometry, of polygons in columns and rows."""
    import shapely
    from rasterio.warp import transform_geom

    crs = facts["scene"]["crs"]
    placed = shapely.transform(_divided(shapes) if crs else shapes, lambda points: _placed(points, facts))
    if crs:
        turned = shapely.set_coordinates(placed.copy(), _to_degrees(shapely.get_coordinates(placed), crs))
        bounds = shapely.bounds(turned)
        for index in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180):  # across the date line: divided there
            geometry = transform_geom(crs, LONGITUDE_LATITUDE, shapely.geometry.mapping(placed[index]))
            turned[index] = shapely.geometry.shape(geometry)
        placed = shapely.transform(turned, lambda points: np.round(points, DEGREE_DIGITS))
    yield from map(shapely.geometry.mapping, shapely.orient_polygons(placed))


def _to_degrees(points: FloatArray, crs: str) -> FloatArray:
    """Longitudes and latitudes of coordinates, (N, 2) both."""
    from rasterio._err import CPLE_BaseError  # PROJ's refusals come as this, which has no public name
    from rasterio.warp import transform

    try:
        degrees: FloatArray = np.stack(transform(crs, LONGITUDE_LATITUDE, *points.T), axis=1)
    except CPLE_BaseError:
        degrees = np.full_like(points, np.inf)
    if not np.isfinite(degrees).all():
        raise UserError(
            "GeoJSON is in longitude and latitude, which a part of this scene does not have in its coordinate system: "
            "write the polygons as a GeoPackage (.gpkg)."
        )
    return degrees


def _divided(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons with corners added where their sides cross every ``EDGE_PX``-th line, the same ones for neighbours."""
    import shapely

    _, points, (rings, polygons) = shapely.to_ragged_array(shapes)
    start, end = points[:-1], points[1:]
    is_side = np.ones(len(start), bool)
    is_side[rings[1:-1] - 1] = False  # from one ring to the next
    along = np.where(start[:, 0] != end[:, 0], 0, 1)
    index = np.arange(len(start))
    low, high = np.minimum(start, end)[index, along], np.maximum(start, end)[index, along]
    first = np.floor(low / EDGE_PX).astype(np.int64) + 1
    counts = np.where(is_side, np.maximum(np.ceil(high / EDGE_PX).astype(np.int64) - first, 0), 0)
    side = np.repeat(index, counts)
    number = np.arange(len(side)) - np.repeat(np.cumsum(counts) - counts, counts)
    number = np.where(end[side, along[side]] > start[side, along[side]], number, counts[side] - 1 - number)
    added = start[side].copy()
    added[np.arange(len(side)), along[side]] = (first[side] + number) * EDGE_PX
    places = np.concatenate([np.arange(len(points)), side + 0.5])  # after the corner that a side begins at
    order = np.argsort(places, kind="stable")
    shifts = np.concatenate([[0], np.cumsum(np.append(counts, 0))])
    divided: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        np.concatenate([points, added])[order],
        (rings + np.append(shifts, shifts[-1])[np.minimum(rings, len(shifts))], polygons),
    )
    return divided
