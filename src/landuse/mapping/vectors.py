"""Polygons into a file: a GeoPackage in the scene's coordinates, or GeoJSON in longitude and latitude."""

import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.errors import UserError

BATCH = 10_000  # polygons that are written at once
EDGE_PX = 256  # straight lines of a projection are bent in degrees: no longer ones are carried there
DEGREE_DIGITS = 9  # a tenth of a millimetre
LONGITUDE_LATITUDE = "OGC:CRS84"  # EPSG:4326 in this order
LAYER = "landuse"
VERSION = "1.2"  # of GeoPackages, that older programs read as well without a warning
PIXEL_NOTE = "The scene has no place on the ground: x counts its columns, and y its rows, downwards below 0."
UNKNOWN_NOTE = "The scene names no coordinate system: x and y are in its own coordinates."
FIELDS = ("class", "value", "pixels", "area_ha", "confidence")

logging.getLogger("pyogrio").setLevel(logging.WARNING)  # how many polygons there are is said by ourselves

FloatArray = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]  # the fields, (N,) each


def _note(facts: dict[str, Any]) -> str:
    scene = facts["scene"]
    if scene["crs"]:
        return "Land use by class; area_ha in hectares on the ground, confidence as the mean of 0 to 1."
    return PIXEL_NOTE if scene["transform"] is None else UNKNOWN_NOTE


def _placed(points: FloatArray, facts: dict[str, Any]) -> FloatArray:
    """Coordinates of the scene for columns and rows, (N, 2) both."""
    return carried(points, facts["scene"]["transform"] or (1, 0, 0, 0, -1, 0))


def carried(points: FloatArray, affine: Sequence[float]) -> FloatArray:
    """Points after an affine transform of six numbers, (N, 2) both."""
    a, b, c, d, e, f = affine
    x, y = points.T
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _batches(num_shapes: int) -> Iterator[slice]:
    for start in range(0, num_shapes, BATCH):
        yield slice(start, min(start + BATCH, num_shapes))


def write_geopackage(path: Path, shapes: NDArray[np.object_], columns: Columns, facts: dict[str, Any]) -> None:
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
            for part in [*_batches(len(shapes))] or [slice(0, 0)]:
                placed = shapely.transform(shapes[part], lambda points: _placed(points, facts))
                data = [columns[name][part] for name in FIELDS]
                masks = [np.isnan(values) if values.dtype.kind == "f" else None for values in data]
                more = (
                    {"append": True}
                    if part.start
                    else {"DESCRIPTION": _note(facts), "IDENTIFIER": LAYER, "VERSION": VERSION}
                )
                pyogrio.raw.write(path, shapely.to_wkb(placed), data, field_mask=masks, **options, **more)
            num_written = pyogrio.read_info(path, layer=LAYER, force_feature_count=True)["features"]
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError,
                pyogrio.errors.GeometryError, RuntimeError) as error:  # fmt: skip
            raise OSError(f"{path.name} cannot be written: {' '.join(str(error).split())[:300]}") from error
    if num_written != len(shapes):
        raise OSError(f"{path.name} cannot be written: {num_written} of {len(shapes)} polygons arrived")


def write_geojson(path: Path, shapes: NDArray[np.object_], columns: Columns, facts: dict[str, Any]) -> None:
    """Write a feature collection as RFC 7946 wants it: longitude before latitude, outer rings counterclockwise."""
    head = {"type": "FeatureCollection", "name": LAYER, "description": _note(facts)}
    with path.open("w", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        separator = "\n"
        for part in _batches(len(shapes)):
            rows = zip(*(columns[name][part].tolist() for name in FIELDS), strict=True)
            for geometry, row in zip(_geometries(shapes[part], facts), rows, strict=True):
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
