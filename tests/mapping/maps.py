"""Small maps as the command map hands them to what writes its outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS

NAMES = ("forest", "river", "denseresidential")
COLOURS = ("#1b7a3d", "#3d8fe0", "#c0392b")


def facts_of(
    classes: NDArray[np.uint8],
    crs: str | None = "EPSG:32633",
    transform: Sequence[float] | None = (10, 0, 400_000, 0, -10, 5_000_000),
    names: Sequence[str] = NAMES,
) -> dict[str, Any]:
    height, width = classes.shape
    pixels = [int((classes == value).sum()) for value in (*range(len(names)), 254)]
    total = max(1, sum(pixels))
    metres = [10.0, 10.0] if crs else None
    areas = [
        {
            "class": name, "value": value, "pixels": count, "counted_share": count / total,
            "counted_ha": count / 100 if crs else None, "corrected_share": 0.9 * count / total,
            "corrected_ha": 0.9 * count / 100 if crs else None, "low_ha": 0.8 * count / 100 if crs else None,
            "high_ha": count / 100 if crs else None, "low_share": 0.8 * count / total, "high_share": count / total,
        }
        for name, value, count in zip((*names, "unclassified"), (*range(len(names)), 254), pixels, strict=True)
    ]  # fmt: skip
    if not areas[-1]["pixels"]:
        areas.pop()
    return {
        "scene": {
            "path": "scenes/valley.tif", "width": width, "height": height,
            "crs": CRS.from_user_input(crs).to_wkt() if crs else None, "crs_name": crs,
            "transform": list(transform) if transform else None, "pixel_size_m": metres,
        },
        "model": {"folder": "runs/one/export", "variant": "fp32", "version": "1", "classes": list(names)},
        "windows": {"tile_px": [256, 256], "stride_px": [128, 128], "num": 12, "symmetries": False},
        "classes": [
            {"value": value, "name": name, "colour": colour}
            for value, (name, colour) in enumerate(zip(names, COLOURS, strict=True))
        ],
        "nodata": 255, "unclassified": 254, "min_confidence": 0.4, "areas": areas,
        "correction": "the confusion of 210 test images", "warnings": [], "created": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip


def write_rasters(
    folder: Path, classes: NDArray[np.uint8], confidence: NDArray[np.float32], facts: dict[str, Any]
) -> tuple[Path, Path]:
    scene = facts["scene"]
    place = {"transform": rasterio.Affine(*scene["transform"])} if scene["transform"] else {}
    paths = folder / "classes.tif", folder / "confidence.tif"
    for path, values, nodata in zip(paths, (classes, confidence), (255, float("nan")), strict=True):
        with rasterio.open(
            path, "w", driver="GTiff", width=scene["width"], height=scene["height"], count=1, dtype=values.dtype,
            nodata=nodata, crs=scene["crs"], **place,
        ) as dataset:  # fmt: skip
            dataset.write(values, 1)
    return paths
