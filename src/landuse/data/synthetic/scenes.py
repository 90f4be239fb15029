"""The table of classes and the one function that draws a scene of any of them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from landuse.data.synthetic.drawing import Canvas, Colour, clip_unit
from landuse.data.synthetic.randomness import Dice, FloatArray, direction
from landuse.data.synthetic.scenes_common import Scene, tinted
from landuse.data.synthetic.scenes_nature import (
    draw_agricultural,
    draw_beach,
    draw_chaparral,
    draw_forest,
    draw_river,
)
from landuse.data.synthetic.scenes_residential import (
    draw_denseresidential,
    draw_mediumresidential,
    draw_mobilehomepark,
    draw_sparseresidential,
)
from landuse.data.synthetic.scenes_sports import draw_baseballdiamond, draw_golfcourse, draw_tenniscourt
from landuse.data.synthetic.scenes_transport import (
    draw_airplane,
    draw_freeway,
    draw_harbor,
    draw_intersection,
    draw_overpass,
    draw_runway,
)
from landuse.data.synthetic.scenes_urban import (
    draw_buildings,
    draw_parkinglot,
    draw_storagetanks,
)

VERSION = 1
"""Raise whenever any pixel changes: prepared copies of the dataset carry this number."""

MIN_SIZE_PX = 16

Extent = tuple[float, float]

# Painter and range of the ground shown, in metres, of every class. A class keeps its place for good: the position
# seeds its scenes.
_PAINTERS: dict[str, tuple[Callable[[Scene], None], Extent]] = {
    "agricultural": (draw_agricultural, (90.0, 150.0)),
    "airplane": (draw_airplane, (60.0, 90.0)),
    "baseballdiamond": (draw_baseballdiamond, (75.0, 105.0)),
    "beach": (draw_beach, (70.0, 120.0)),
    "buildings": (draw_buildings, (75.0, 110.0)),
    "chaparral": (draw_chaparral, (60.0, 95.0)),
    "denseresidential": (draw_denseresidential, (70.0, 90.0)),
    "forest": (draw_forest, (60.0, 95.0)),
    "freeway": (draw_freeway, (65.0, 95.0)),
    "golfcourse": (draw_golfcourse, (80.0, 120.0)),
    "harbor": (draw_harbor, (60.0, 90.0)),
    "intersection": (draw_intersection, (60.0, 85.0)),
    "mediumresidential": (draw_mediumresidential, (75.0, 95.0)),
    "mobilehomepark": (draw_mobilehomepark, (65.0, 90.0)),
    "overpass": (draw_overpass, (65.0, 95.0)),
    "parkinglot": (draw_parkinglot, (50.0, 75.0)),
    "river": (draw_river, (75.0, 120.0)),
    "runway": (draw_runway, (75.0, 120.0)),
    "sparseresidential": (draw_sparseresidential, (75.0, 95.0)),
    "storagetanks": (draw_storagetanks, (60.0, 100.0)),
    "tenniscourt": (draw_tenniscourt, (55.0, 85.0)),
}

CLASSES: tuple[str, ...] = tuple(_PAINTERS)
"""The folder names of the UC Merced land-use dataset, sorted."""

_LEAVES: tuple[Colour, ...] = ((0.20, 0.31, 0.15), (0.17, 0.26, 0.16), (0.27, 0.34, 0.17), (0.32, 0.33, 0.19))


def draw_scene(class_name: str, seed: int, index: int, size_px: int) -> npt.NDArray[np.uint8]:
    """Draw one aerial scene.

    The layout depends on class, seed and index only, so a scene shows the same place at every size.

    Args:
        class_name: One of `CLASSES`.
        seed: Non-negative seed of the dataset.
        index: Non-negative number of the scene within its class.
        size_px: Width and height in pixels.

    Returns:
        (size_px, size_px, 3) uint8 RGB picture; the same bytes on every machine.

    Raises:
        ValueError: Unknown class, or fewer than `MIN_SIZE_PX` pixels.
    """
    if class_name not in _PAINTERS:
        raise ValueError(f"unknown class {class_name!r}; known classes: {', '.join(CLASSES)}")
    if size_px < MIN_SIZE_PX:
        raise ValueError(f"a scene needs at least {MIN_SIZE_PX} pixels per side, got {size_px}")
    paint, extent = _PAINTERS[class_name]
    dice = Dice(seed, CLASSES.index(class_name), index)
    scene = _empty_scene(dice, size_px, extent)
    paint(scene)
    return _photograph(scene)


def _empty_scene(dice: Dice, size_px: int, extent: Extent) -> Scene:
    """A blank picture with its light and season."""
    toward_x, toward_y = direction(dice.unit())
    reach = dice.uniform(0.35, 1.1)
    return Scene(
        canvas=Canvas(size_px, dice.uniform(*extent)),
        dice=dice,
        shadow=(reach * toward_x, reach * toward_y),
        shadow_opacity=dice.uniform(0.35, 0.7),
        leaf=tinted(dice, dice.pick(_LEAVES), 0.08),
    )


def _photograph(scene: Scene) -> npt.NDArray[np.uint8]:
    """Develop a finished canvas: light, tint, saturation, haze, blur and sensor noise; (n, n, 3) uint8."""
    canvas, dice = scene.canvas, scene.dice
    size = canvas.size_px
    pixels = clip_unit(canvas.pixels)
    # Uneven light: a gentle slope across the picture plus the shade of thin clouds.
    slope_x, slope_y = dice.uniform(-0.12, 0.12), dice.uniform(-0.12, 0.12)
    light = 1.0 + (slope_x * canvas.x + slope_y * canvas.y) / scene.half_m
    light = light * (1.0 + dice.uniform(0.0, 0.25) * (canvas.noise(dice, 60.0) - 0.5))
    tint = dice.uniform(0.7, 1.2) * dice.uniforms(0.9, 1.1, 3)
    pixels = clip_unit(pixels * light * tint[:, None, None])
    pixels = pixels + dice.uniform(-0.3, 0.3) * pixels * (1.0 - pixels)
    grey = (pixels[0] + pixels[1] + pixels[2]) / 3.0
    pixels = grey + dice.uniform(0.4, 1.15) * (pixels - grey)
    haze = dice.uniform(0.0, 0.15)
    pixels = pixels + haze * (np.array([0.66, 0.70, 0.76])[:, None, None] - pixels)
    pixels = _blurred(pixels, dice.uniform(0.0, 0.25))
    pixels = pixels + dice.uniform(0.008, 0.03) * dice.bells(3, size, size)
    return np.ascontiguousarray(np.moveaxis(np.floor(clip_unit(pixels) * 255.0 + 0.5), 0, -1).astype(np.uint8))


def _blurred(pixels: FloatArray, share: float) -> FloatArray:
    """Planes (3, n, n) where every pixel gives `share` to each neighbour, along rows and columns in turn."""
    for axis in (1, 2):
        before = np.take(pixels, np.maximum(np.arange(pixels.shape[axis]) - 1, 0), axis=axis)
        after = np.take(pixels, np.minimum(np.arange(pixels.shape[axis]) + 1, pixels.shape[axis] - 1), axis=axis)
        pixels = pixels + share * ((before - pixels) + (after - pixels))
    return pixels
