"""Business and industry: large buildings, car parks and storage tanks."""

import numpy as np

from landuse.data.synthetic.drawing import Colour, Frame, length, segment_distance
from landuse.data.synthetic.randomness import FloatArray
from landuse.data.synthetic.scenes_common import SHADOW, Scene, lay_ground, mixed, palette_colours, tinted
from landuse.data.synthetic.scenes_parts import (
    FLAT_ROOF_COLOURS,
    Boxes,
    draw_blocks,
    draw_trees,
    lay_car_park,
    lay_road,
    lay_surroundings,
    scatter_trees,
)

_TANK_COLOURS = np.array([(0.90, 0.90, 0.88), (0.78, 0.78, 0.76), (0.62, 0.52, 0.44), (0.70, 0.74, 0.70)])
_PIPE_COLOUR: Colour = (0.70, 0.70, 0.68)


def draw_buildings(scene: Scene) -> None:
    """Large flat roofs with machinery on them, streets and car parks between."""
    dice = scene.dice
    lay_ground(scene, dice.pick(("concrete", "asphalt", "grass")), cell_m=14.0)
    frame = scene.frame(wander=0.3)
    block, street = dice.uniform(36.0, 56.0), dice.uniform(4.0, 7.0)
    parked = dice.chance(0.6)
    if parked:
        lay_car_park(scene, frame.moved(0.5 * block, 0.5 * block), 0.5 * block, 0.5 * block - street, dice.unit())
    lay_road(scene, frame, street, lanes=2, cars=6)
    if dice.chance(0.6):
        lay_road(scene, frame.moved(0.0, 0.0, 0.25), street, lanes=2, cars=4)
    scatter_trees(scene, dice.integer(0, 14), 1.3, 3.0)
    weathering = scene.canvas.clouds(dice, 9.0)
    half = 0.5 * block - street - 2.0
    for column in (-1.5, -0.5, 0.5, 1.5):
        for row in (-1.5, -0.5, 0.5, 1.5):
            on_car_park = parked and column == row == 0.5
            if not on_car_park and dice.chance(0.9):
                plot = frame.moved(column * block, row * block)
                halves = (half * dice.uniform(0.7, 1.0), half * dice.uniform(0.5, 1.0))
                _draw_flat_building(scene, plot, halves, dice.uniform(5.0, 14.0), weathering)


def _draw_flat_building(
    scene: Scene, frame: Frame, halves: tuple[float, float], height_m: float, weathering: FloatArray
) -> None:
    """A flat roof with a parapet, perhaps L-shaped, and boxes of machinery on it.

    Args:
        scene: Where to draw.
        frame: Middle and direction.
        halves: Half length and half width.
        height_m: Height, which its shadow shows.
        weathering: Stains (n, n) of all the roofs in the scene.
    """
    half_u, half_v = halves
    if not scene.shows(np.array([[frame.x, frame.y]]), half_u + half_v + height_m)[0]:
        return
    canvas, dice = scene.canvas, scene.dice
    u, v = scene.local(frame)
    # The corner beyond (notch_u, -notch_v) is cut off; a notch outside the roof cuts nothing.
    notch_u, notch_v = (0.4 * half_u, 0.3 * half_v) if dice.chance(0.4) else (3.0 * half_u, 0.0)

    def cover(u: FloatArray, v: FloatArray, inset: float = 0.0) -> FloatArray:
        roof = canvas.box(u, v, half_u - inset, half_v - inset)
        if notch_u > half_u:
            return roof
        return roof * (1.0 - canvas.inside(notch_u - inset - u) * canvas.inside(v + notch_v - inset))

    shadow_u, shadow_v = scene.shadow_in(frame)
    shade = cover(u - 0.5 * height_m * shadow_u, v - 0.5 * height_m * shadow_v)
    shade = np.maximum(shade, cover(u - height_m * shadow_u, v - height_m * shadow_v))
    canvas.blend(shade * scene.shadow_opacity, SHADOW)
    red, green, blue = palette_colours(dice, FLAT_ROOF_COLOURS, 1)[0].tolist()
    canvas.blend(cover(u, v), tinted(dice, (0.86 * red, 0.86 * green, 0.86 * blue), 0.02))
    canvas.blend(cover(u, v, 0.8), mixed((red, green, blue), (1.0, 1.0, 1.0), 0.12 * weathering))
    count = dice.integer(1, 7)
    spots = dice.uniforms(-0.8, 0.8, count, 2) * np.array([half_u, half_v])
    machines = Boxes(frame.world(spots), np.full(count, frame.turns), dice.uniforms(0.8, 2.4, count, 2))
    on_roof = (spots[:, 0] < notch_u - 3.0) | (spots[:, 1] > 3.0 - notch_v)
    draw_blocks(scene, machines[on_roof], palette_colours(dice, FLAT_ROOF_COLOURS, count)[on_roof], 1.5)


def draw_parkinglot(scene: Scene) -> None:
    """Rows of parked cars."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("concrete", "asphalt", "grass"))
    frame = scene.frame(wander=0.12)
    half_u, half_v = dice.uniform(0.36, 0.75) * canvas.extent_m, dice.uniform(0.3, 0.75) * canvas.extent_m
    lay_car_park(scene, frame, half_u, half_v, dice.uniform(0.35, 0.98))
    if dice.chance(0.4):
        count = dice.integer(3, 12)
        islands = frame.world(dice.uniforms(-1.0, 1.0, count, 2) * np.array([half_u, half_v]))
        draw_trees(scene, islands, dice.uniforms(1.2, 2.4, count))
    if dice.chance(0.3):
        shop = frame.moved(0.0, half_v + 14.0)
        halves = (dice.uniform(10.0, 40.0), 12.0)
        _draw_flat_building(scene, shop, halves, dice.uniform(4.0, 9.0), canvas.clouds(dice, 9.0))


def draw_storagetanks(scene: Scene) -> None:
    """Round tanks with rims and shadows: a few large ones or rows of smaller ones."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("concrete", "dry", "soil", "grass"))
    frame = scene.frame(wander=0.15)
    radius = dice.uniform(5.0, 15.0)
    pitch = radius * dice.uniform(2.35, 3.2)
    columns = dice.integer(1, 2) if radius > 10.0 else dice.integer(2, 4)
    rows = dice.integer(1, 2) if radius > 10.0 else dice.integer(1, 3)
    u, v = scene.local(frame)
    yard = canvas.box(u, v, 0.5 * columns * pitch + 3.0, 0.5 * rows * pitch + 3.0)
    lay_ground(scene, dice.pick(("concrete", "dry", "soil")), yard * dice.uniform(0.3, 1.0))
    places: list[tuple[float, float]] = []
    for row in range(rows):
        across = (row - 0.5 * (rows - 1)) * pitch
        canvas.blend(canvas.box(u, v - across, 0.5 * columns * pitch, 0.35), _PIPE_COLOUR)
        places.extend(((column - 0.5 * (columns - 1)) * pitch, across) for column in range(columns))
    radii = radius * dice.uniforms(0.8, 1.05, len(places))
    _draw_tanks(scene, frame.world(np.array(places)), radii, radius * dice.uniform(0.5, 0.9))


def _draw_tanks(scene: Scene, centres: FloatArray, radii: FloatArray, height_m: float) -> None:
    """Tanks (N, 2) of the given radii (N,): shadow, wall rim, shallow conical roof and a ladder."""
    canvas, dice = scene.canvas, scene.dice
    count = len(centres)
    size = radii[:, None, None]
    reach = float(radii.max()) + 0.5
    turns = dice.units(count)
    sun_u, sun_v = scene.sunlit(turns)
    paint = dice.integer(0, len(_TANK_COLOURS) - 1)
    colours = palette_colours(dice, _TANK_COLOURS[paint : paint + 1], count, 0.06)[:, :, None, None]
    shadow_x, shadow_y = height_m * scene.shadow[0], height_m * scene.shadow[1]

    def shadow(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        swept = segment_distance(u, v, (0.0, 0.0), (shadow_x, shadow_y)) - size
        return canvas.inside(swept) * scene.shadow_opacity, np.array(SHADOW)[:, None, None]

    def tank(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        radius = length(u, v)
        light = 1.0 + 0.2 * (u * sun_u + v * sun_v) / (radius + 0.3 * size)
        rim = canvas.strip(radius - size + 0.5, 0.5)
        ladder = canvas.box(u - 0.5 * size, v, 0.5 * size, 0.3)
        light = light * (1.0 - 0.3 * rim) * (1.0 - 0.25 * ladder)
        return canvas.inside(radius - size), colours * light[:, None]

    canvas.stamp(centres, np.zeros(count), reach + max(abs(shadow_x), abs(shadow_y)), shadow)
    canvas.stamp(centres, turns, reach, tank)
