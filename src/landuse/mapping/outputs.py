"""All that a map consists of, written from what the model has said of a scene."""

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.addresses import named
from landuse.errors import UserError
from landuse.files import write_json
from landuse.mapping.colours import UNCLASSIFIED as GREY
from landuse.mapping.colours import class_colours
from landuse.mapping.job import Work
from landuse.mapping.page import write_map_page
from landuse.mapping.parts import joined
from landuse.mapping.picture import write_picture
from landuse.mapping.polygons import write_polygons
from landuse.mapping.rasters import Counts, Values, strips, values_for, write_rasters
from landuse.mapping.scene import environment
from landuse.mapping.style import write_polygon_style, write_style
from landuse.mapping.table import area_rows, find_confusion, write_csv

log = logging.getLogger(__name__)

WRITTEN = ("classes", "confidence", "polygons", "areas", "map")  # names without suffix; temporary ones begin with a dot


def write_map(work: Work) -> dict[str, Any]:
    """Write the map of a scene whose windows have all been answered; returns the content of map.json.

    Raises:
        UserError: parts are missing, the scene cannot be read any more, nothing in it holds data, or another process
            is drawing the same map.
        OSError: the outputs cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(work.parts / "map.lock", timeout=0):
            for left in (left for name in WRITTEN for left in work.folder.glob(f".{name}.*")):
                left.unlink()  # by a process that was killed
            return _write_map(work)
    except Timeout as error:
        raise UserError(f"Another process is drawing the map in {work.folder}: let it end.") from error


def _write_map(work: Work) -> dict[str, Any]:
    started = time.perf_counter()
    model, asked, folder = work.classifier.model, work.asked, work.folder
    values = values_for(len(model.classes))
    colours = class_colours(model.classes, asked.colours)
    confusion, said = find_confusion(asked.evaluation, model, asked.min_confidence)
    log.info("areas       %s", said)
    counts, preview = _rasters(work, values, colours)
    rows = area_rows(counts, model.classes, values, confusion, work.scale.grid.rows.tile * work.scale.grid.columns.tile)
    facts = _facts(work, values, colours, rows, None if confusion is None else confusion.source)
    write_csv(folder / "areas.csv", rows)
    write_json(folder / "map.json", facts)
    write_style(folder / "classes.qml", facts)
    _polygons(work, facts)
    classes, confidence = (_shrunk(folder / name, preview.shape[:2]) for name in ("classes.tif", "confidence.tif"))
    write_picture(preview, classes, facts, folder / "map.png")
    write_map_page(preview, classes, confidence, facts, folder / "map.html")
    log.info("written     in %.1f s", time.perf_counter() - started)
    return facts


def _rasters(work: Work, values: Values, colours: list[str]) -> tuple[Counts, NDArray[np.uint8]]:
    """Write both; what was counted, and the preview of the scene."""
    scene, grid, classes = work.scene, work.scale.grid, work.classifier.model.classes
    palette = {value: _rgb(colour) for value, colour in enumerate(colours)} | {values.unclassified: _rgb(GREY)}
    with joined(work.parts, grid, len(classes), work.description()) as answers, scene.opened() as reader:
        made = strips(reader, grid, answers, values, work.asked.min_confidence)
        counts = write_rasters(scene, made, values, classes, palette, work.folder, work.block_areas)
        return counts, answers.preview()


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _facts(
    work: Work, values: Values, colours: list[str], rows: list[dict[str, Any]], correction: str | None
) -> dict[str, Any]:
    scene, scale, model = work.scene, work.scale, work.classifier.model
    grid = scale.grid
    return {
        "format": "landuse-map",
        "format_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "scene": {
            "path": named(scene.path),
            "width": scene.width,
            "height": scene.height,
            "crs": None if scene.crs is None else scene.crs.to_wkt(),
            "crs_name": None if scene.crs is None else scene.crs.to_string()[:200],
            "transform": None if scene.transform is None else list(scene.transform),
            "pixel_size_m": None if scale.pixel_size is None else list(scale.pixel_size),
            "bands": list(scene.bands),
            "band_names": list(scene.band_names),
            "dtype": scene.dtype,
            "value_range": None if scene.value_range is None else list(scene.value_range),
            "range_rule": scene.range_rule,
        },
        "model": {
            "folder": str(model.folder),
            "variant": model.variant,
            "version": model.version,
            "device": work.classifier.device,
            "classes": list(model.classes),
            "image_size": model.image_size,
            "gsd": model.gsd,
            "tile_size": model.tile_size,
        },
        "windows": {
            "num": grid.num_windows,
            "tile_px": [grid.rows.tile, grid.columns.tile],
            "stride_px": [grid.rows.stride, grid.columns.stride],
            "tile_m": scale.tile_m,
            "symmetries": work.asked.symmetries,
        },
        "classes": [
            {"value": value, "name": name, "colour": colour}
            for value, (name, colour) in enumerate(zip(model.classes, colours, strict=True))
        ],
        "nodata": values.nodata,
        "unclassified": values.unclassified,
        "min_confidence": work.asked.min_confidence,
        "areas": rows,
        "correction": correction,
        "areas_are_planar": None if scene.ground is None else scene.ground.is_planar,
        "warnings": list(scale.warnings),
    }


def _polygons(work: Work, facts: dict[str, Any]) -> None:
    asked, folder = work.asked, work.folder
    for suffix in ("gpkg", "geojson"):  # of an earlier map, drawn in another way
        if suffix != asked.polygons and (folder / f"polygons.{suffix}").exists():
            (folder / f"polygons.{suffix}").unlink()
            log.info("removed     polygons.%s of the map before", suffix)
    if asked.polygons != "off":
        path = folder / f"polygons.{asked.polygons}"
        try:
            num = write_polygons(folder / "classes.tif", folder / "confidence.tif", facts, work.block_areas, path)
        except OSError as error:
            if error.errno is not None:
                raise
            raise UserError(  # SQLite's words say no more than that it could not
                f"{path}: {error}: make room or allow writing there, or choose another folder with output=PATH."
            ) from error
        write_polygon_style(folder / "polygons.qml", facts)
        log.info("polygons    %s", f"{num:,}")


def _shrunk(path: Path, shape: tuple[int, int]) -> NDArray[Any]:
    """A raster of the map in the shape of the preview."""
    import rasterio

    with environment(), rasterio.open(path) as file:
        values: NDArray[Any] = file.read(1, out_shape=shape)
        return values
