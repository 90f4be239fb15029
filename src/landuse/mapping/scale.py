"""How many pixels of a scene a tile takes, so that the model sees the ground as it did in training."""

import math
from dataclasses import dataclass

from landuse.addresses import named
from landuse.config.schema import MapConfig
from landuse.errors import UserError
from landuse.mapping.plan import Axis, Grid
from landuse.mapping.scene import Scene
from landuse.serving.artifact import ServedModel

MOST_TILES = 200_000_000  # of a scene
FEWEST_PX, MOST_PX = 4, 8192  # sides of a tile in the scene
LARGEST_CONTRADICTION = 0.02  # between what is asked and the georeference
LARGEST_FACTOR = 2.0  # between the resolutions of the scene and of the model's images, beyond which it is warned


@dataclass(frozen=True)
class Scale:
    """Pixels, tiles and metres.

    Attributes:
        grid: of the windows.
        pixel_size: metres a pixel measures across and down; None: nobody knows.
        tile_m: metres a tile measures; None: nobody knows.
        warnings: what a user should know, a sentence each.
    """

    grid: Grid
    pixel_size: tuple[float, float] | None
    tile_m: float | None
    warnings: tuple[str, ...]


def plan(scene: Scene, model: ServedModel, asked: MapConfig) -> Scale:
    """The windows of a scene for a model.

    Raises:
        UserError: a tile would be of a few pixels, or of too many, or the stride is larger than it.
    """
    pixel_size = _pixel_size(scene, asked)
    side_px = model.tile_size or model.image_size
    tile_m = asked.tile_m or (None if model.gsd is None else model.gsd * side_px)
    warnings = []
    if pixel_size is not None and tile_m is not None:
        across, down = (round(tile_m / size) for size in pixel_size)
        warnings += _of_scale(pixel_size, tile_m / side_px)
    else:
        across = down = side_px
        warnings.append(_of_guess(side_px, pixel_size, tile_m))
    if not FEWEST_PX <= min(across, down) <= max(across, down) <= MOST_PX:
        raise UserError(
            f"A tile of {tile_m:g} m would be {across} x {down} pixels of {named(scene.path)}, and {FEWEST_PX} to "
            f"{MOST_PX:,} are taken: resample the scene (gdalwarp -tr), or correct it with map.tile_m= or map.gsd=."
        )
    if min(scene.width - across, scene.height - down) < 0:
        warnings.append(
            f"The scene ({scene.width} x {scene.height} pixels) is smaller than a tile ({across} x {down}), which is "
            "completed by mirroring it."
        )
    _require_few(scene, down, across, asked.stride)
    grid = Grid(_axis(scene.height, down, asked.stride), _axis(scene.width, across, asked.stride))
    return Scale(grid, pixel_size, tile_m, tuple(warnings))


def _pixel_size(scene: Scene, asked: MapConfig) -> tuple[float, float] | None:
    if scene.ground is None:
        return None if asked.gsd is None else (asked.gsd, asked.gsd)
    size = scene.ground.pixel_size()
    if asked.gsd is not None and abs(asked.gsd / math.sqrt(size[0] * size[1]) - 1) > LARGEST_CONTRADICTION:
        raise UserError(
            f"map.gsd={asked.gsd:g}, but by its georeference a pixel of {named(scene.path)} measures {size[0]:.4g} x "
            f"{size[1]:.4g} m: leave map.gsd out, or correct the georeference."
        )
    return size


def _of_scale(pixel_size: tuple[float, float], model_gsd: float) -> list[str]:
    size = math.sqrt(pixel_size[0] * pixel_size[1])
    factor = size / model_gsd
    if 1 / LARGEST_FACTOR <= factor <= LARGEST_FACTOR:
        return []
    how = "coarser" if factor > 1 else "finer"
    return [
        f"The scene's pixels ({size:.3g} m) are {max(factor, 1 / factor):.1f} times {how} than those of the model's "
        f"images ({model_gsd:.3g} m): it is resampled, but what the model learnt to look at may not be there."
    ]


def _of_guess(side_px: int, pixel_size: tuple[float, float] | None, tile_m: float | None) -> str:
    unknown, cure = [], []
    if pixel_size is None:
        unknown.append("what a pixel of the scene measures")
        cure.append("map.gsd=METRES")
    if tile_m is None:
        unknown.append("how large the ground in the model's images is")
        cure.append("map.tile_m=METRES")
    return (
        f"Nothing says {' and '.join(unknown)}: tiles of {side_px} pixels are taken, as if the scene had the "
        f"resolution of the model's images. To say it: {' '.join(cure)}."
    )


def _require_few(scene: Scene, down: int, across: int, stride: float) -> None:
    """Reckoned: a scene that lies about its size would have more chunks than memory holds."""
    steps = [max(1, stride * tile) if stride <= 1 else stride for tile in (down, across)]
    number = (scene.height / steps[0] + 1) * (scene.width / steps[1] + 1)
    if number > MOST_TILES:
        raise UserError(
            f"{named(scene.path)} has about {number:,.0f} tiles, of {MOST_TILES:,} at most: give a larger "
            "map.stride, or map it in pieces (gdal_translate -srcwin)."
        )


def _axis(length: int, tile: int, stride: float) -> Axis:
    step = max(1, round(stride * tile)) if stride <= 1 else round(stride)
    if step > tile:
        raise UserError(f"map.stride={stride:g}: is larger than a tile, which has {tile} pixels here: give at most 1.")
    return Axis(length, tile, step)
