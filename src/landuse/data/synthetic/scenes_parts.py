"""Things found in many classes: trees, cars, houses, roads, car parks, ponds and the clutter around the subject."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landuse.data.synthetic.drawing import Canvas, Frame, Tiling, clip_unit, length
from landuse.data.synthetic.randomness import FloatArray
from landuse.data.synthetic.scenes_common import (
    GLASS,
    SHADOW,
    WATERS,
    WHITE,
    YELLOW,
    Scene,
    lay_ground,
    lay_patches,
    palette_colours,
)

CAR_COLOURS = np.array(
    [
        (0.88, 0.88, 0.88), (0.72, 0.73, 0.75), (0.45, 0.46, 0.48), (0.12, 0.12, 0.14), (0.20, 0.21, 0.24),
        (0.60, 0.14, 0.13), (0.16, 0.26, 0.50), (0.58, 0.52, 0.42), (0.18, 0.32, 0.26), (0.93, 0.93, 0.91),
    ]
)  # fmt: skip

ROOF_COLOURS = np.array(
    [
        (0.52, 0.36, 0.28), (0.60, 0.45, 0.34), (0.42, 0.36, 0.33), (0.50, 0.49, 0.48),
        (0.36, 0.36, 0.38), (0.64, 0.56, 0.46), (0.58, 0.32, 0.24), (0.45, 0.42, 0.38),
    ]
)  # fmt: skip

FLAT_ROOF_COLOURS = np.array(
    [
        (0.82, 0.82, 0.80), (0.70, 0.69, 0.66), (0.58, 0.58, 0.58),
        (0.76, 0.71, 0.62), (0.46, 0.45, 0.45), (0.64, 0.55, 0.48),
    ]
)  # fmt: skip


def draw_trees(scene: Scene, centres: FloatArray, radii: FloatArray) -> None:
    """Round crowns (N, 2) of the given radii (N,) with their shadows."""
    count = len(centres)
    if count == 0:
        return
    dice, canvas = scene.dice, scene.canvas
    size = radii[:, None, None]
    reach = float(radii.max())
    upright = np.zeros(count)
    tone = dice.uniforms(0.75, 1.25, count, 1, 1)
    warmth = dice.uniforms(0.9, 1.15, count, 1, 1)
    toward = scene.sunlit(upright)

    def shadow(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        return canvas.inside(length(u, v) - size) * scene.shadow_opacity, np.array(SHADOW)[:, None, None]

    def crown(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        light = tone * (1.0 + 0.35 * (u * toward[0] + v * toward[1]) / size)
        red, green, blue = scene.leaf
        colour = np.stack([light * warmth * red, light * green, light * blue], axis=1)
        return canvas.inside(length(u, v) - size), colour

    canvas.stamp(centres + radii[:, None] * np.array(scene.shadow), upright, reach, shadow)
    canvas.stamp(centres, upright, reach, crown)


def scatter_trees(scene: Scene, count: int, low_m: float = 1.5, high_m: float = 4.0) -> None:
    """Trees anywhere in the picture."""
    draw_trees(scene, scene.scatter(count), scene.dice.uniforms(low_m, high_m, count))


@dataclass(frozen=True)
class Boxes:
    """N rectangles on the ground.

    Attributes:
        centres: (N, 2) places in the picture.
        turns: (N,) directions of the long sides.
        halves: (N, 2) half lengths along and across.
    """

    centres: FloatArray
    turns: FloatArray
    halves: FloatArray

    @classmethod
    def single(cls, frame: Frame, half_u: float, half_v: float) -> "Boxes":
        """One rectangle in the middle of a frame."""
        return cls(np.array([[frame.x, frame.y]]), np.array([frame.turns]), np.array([[half_u, half_v]]))

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> "Boxes":
        return Boxes(self.centres[chosen], self.turns[chosen], self.halves[chosen])

    @property
    def reach(self) -> float:
        """Distance from the centre to the farthest corner of any of them."""
        return float(length(self.halves[:, 0], self.halves[:, 1]).max())

    def coverage(self, canvas: Canvas, u: FloatArray, v: FloatArray) -> FloatArray:
        """Coverage (N, P, P) in the windows of a stamp."""
        return canvas.box(u, v, self.halves[:, 0, None, None], self.halves[:, 1, None, None])


def draw_shadows(scene: Scene, boxes: Boxes, height_m: float) -> None:
    """The shadows the tops of boxes of the given height cast."""

    def shadow(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        return boxes.coverage(scene.canvas, u, v) * scene.shadow_opacity, np.array(SHADOW)[:, None, None]

    if len(boxes):
        scene.canvas.stamp(boxes.centres + height_m * np.array(scene.shadow), boxes.turns, boxes.reach, shadow)


def draw_blocks(scene: Scene, boxes: Boxes, colours: FloatArray, height_m: float) -> None:
    """Flat-topped boxes in colours (N, 3); those of height 0 are flush with the ground and cast no shadow."""

    def top(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        return boxes.coverage(scene.canvas, u, v), colours[:, :, None, None]

    if height_m > 0.0:
        draw_shadows(scene, boxes, height_m)
    if len(boxes):
        scene.canvas.stamp(boxes.centres, boxes.turns, boxes.reach, top)


def draw_cars(scene: Scene, centres: FloatArray, turns: FloatArray) -> None:
    """Cars, and now and then a lorry, at (N, 2) places heading in (N,) directions."""
    count = len(centres)
    lorry = scene.dice.units(count) < 0.1
    halves = np.stack([np.where(lorry, 5.0, 2.3), np.where(lorry, 1.3, 0.95)], axis=1)
    draw_blocks(scene, Boxes(centres, turns, halves), palette_colours(scene.dice, CAR_COLOURS, count), 1.2)

    def windows(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        panes = scene.canvas.box(u - 0.8, v, 0.35, 0.75) + scene.canvas.box(u + 1.4, v, 0.3, 0.75)
        return panes * ~lorry[:, None, None], np.array(GLASS)[:, None, None]

    scene.canvas.stamp(centres, turns, 1.9, windows)


def draw_houses(scene: Scene, boxes: Boxes, palette: FloatArray = ROOF_COLOURS) -> None:
    """Pitched roofs, gabled or hipped, whose sides catch the sun differently.

    Args:
        scene: Where to draw.
        boxes: Outlines; ridges run along u.
        palette: (K, 3) roof colours.
    """
    count = len(boxes)
    if count == 0:
        return
    half_u, half_v = boxes.halves[:, 0, None, None], boxes.halves[:, 1, None, None]
    colours = palette_colours(scene.dice, palette, count)[:, :, None, None]
    hipped = (scene.dice.units(count) < 0.5)[:, None, None]
    sun_u, sun_v = scene.sunlit(boxes.turns)
    per_pixel = 1.0 / scene.canvas.pixel_m

    def roof(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        side_v = np.minimum(np.maximum(v * per_pixel, -1.0), 1.0) * sun_v
        side_u = np.minimum(np.maximum(u * per_pixel, -1.0), 1.0) * sun_u
        on_hip = hipped * clip_unit(0.5 + ((np.abs(u) - half_u) - (np.abs(v) - half_v)) * per_pixel)
        light = 1.0 + 0.38 * (side_v + (side_u - side_v) * on_hip)
        return boxes.coverage(scene.canvas, u, v), colours * light[:, None]

    # Eaves and ridge: two shadows stand for everything between.
    draw_shadows(scene, boxes, 2.0)
    draw_shadows(scene, boxes, 4.0)
    scene.canvas.stamp(boxes.centres, boxes.turns, boxes.reach, roof)


def lay_road(
    scene: Scene,
    frame: Frame,
    half_width: float,
    *,
    lanes: int = 2,
    ground: str = "asphalt",
    divided: bool = True,
    cars: int = 0,
) -> None:
    """A road along the u axis of a frame, endless in both directions.

    Args:
        scene: Where to draw.
        frame: The road follows its line v = 0.
        half_width: Half the paved width.
        lanes: Lanes in all; dashes part lanes of one direction.
        ground: What it is paved with.
        divided: Whether a yellow line parts the two directions (else all traffic goes one way).
        cars: Largest number of cars on it.
    """
    canvas, dice = scene.canvas, scene.dice
    off_axis = frame.local(np.zeros(1), np.zeros(1))[1]
    if not frame.bend and abs(float(off_axis[0])) > half_width + 0.75 * canvas.extent_m:
        return
    u, v = scene.local(frame)
    lay_ground(scene, ground, canvas.strip(v, half_width), cell_m=9.0, octaves=2)
    lane = 2.0 * half_width / (lanes + 0.5)
    worn = dice.uniform(0.0, 0.9)
    markings = canvas.strip(np.abs(v) - 0.5 * lanes * lane, 0.18)
    for border in range(1, lanes):
        offset = (border - 0.5 * lanes) * lane
        if divided and 2 * border == lanes:
            canvas.blend(canvas.strip(v - offset, 0.3) * (1.0 - 0.5 * worn), YELLOW)
        else:
            markings = markings + canvas.strip(v - offset, 0.2) * canvas.dashes(u, 9.0, 4.0)
    canvas.blend(markings * (1.0 - 0.6 * worn), WHITE)
    count = dice.integer(0, cars)
    if count:
        track = (dice.units(count) * lanes).astype(np.int64)
        place = dice.uniforms(-0.75, 0.75, count) * canvas.extent_m
        centres = frame.world(np.stack([place, (track + 0.5 - 0.5 * lanes) * lane], axis=1))
        draw_cars(scene, centres, frame.headings(place))


def lay_car_park(scene: Scene, frame: Frame, half_u: float, half_v: float, occupancy: float) -> None:
    """A rectangular car park: rows of stalls along u, two back to back, then an aisle.

    Args:
        scene: Where to draw.
        frame: Its middle and direction.
        half_u: Half its length along the rows.
        half_v: Half its width across them.
        occupancy: Share of stalls taken.
    """
    canvas, dice = scene.canvas, scene.dice
    u, v = scene.local(frame)
    whole = canvas.box(u, v, half_u, half_v)
    lay_ground(scene, "asphalt" if dice.chance(0.75) else "concrete", whole, cell_m=12.0)
    stall, aisle, pitch = 5.2, dice.uniform(6.0, 7.5), dice.uniform(2.6, 3.0)
    period = 2.0 * stall + aisle
    across = v - np.floor(v / period + 0.5) * period
    rows = Tiling(dice, u, v, pitch, 0.5 * period)
    depth = np.abs(across) - 0.5 * stall
    whole = whole * canvas.box(u, v, half_u - 1.0, half_v - 1.0)
    lines = canvas.strip(np.abs(rows.u) - 0.5 * pitch, 0.12) * canvas.strip(depth, 0.5 * stall)
    canvas.blend(whole * (lines + canvas.strip(across, 0.12)) * 0.7, WHITE)
    taken = (rows.units() < occupancy) * whole
    nudge = rows.units() * 0.8 - 0.4
    shadow_u, shadow_v = scene.shadow_in(frame)
    outward = np.where(across >= 0.0, shadow_v, -shadow_v)
    shade = canvas.box(rows.u - shadow_u, depth + nudge - outward, 0.95, 2.3)
    canvas.blend(shade * taken * scene.shadow_opacity, SHADOW)
    canvas.blend(canvas.box(rows.u, depth + nudge, 0.95, 2.3) * taken, rows.colours(CAR_COLOURS))
    panes = canvas.box(rows.u, np.abs(depth + nudge) - 1.1, 0.75, 0.35)
    canvas.blend(panes * taken * 0.8, GLASS)


def lay_pond(scene: Scene, frame: Frame, radius: float) -> None:
    """A pool of water with an uneven shore."""
    u, v = scene.local(frame)
    ragged = length(u, 1.4 * v) - radius + 0.9 * radius * (scene.canvas.noise(scene.dice, radius) - 0.5)
    lay_ground(scene, "soil", scene.canvas.inside(ragged - 1.0, 1.5))
    lay_ground(scene, scene.dice.pick(WATERS), scene.canvas.inside(ragged, 1.0))


# Strays: one small painter for each kind; `_STRAYS` says how often it appears.


def _stray_road(scene: Scene) -> None:
    frame = scene.frame(wander=0.5, bend=0.002)
    ground = scene.dice.pick(("asphalt", "concrete", "dry"))
    lay_road(scene, frame, scene.dice.uniform(2.5, 4.5), lanes=2, ground=ground, cars=3)


def _stray_houses(scene: Scene) -> None:
    count = scene.dice.integer(1, 2)
    halves = scene.dice.uniforms(4.0, 9.0, count, 2)
    draw_houses(scene, Boxes(scene.scatter(count), scene.dice.units(count), halves))


def _stray_cars(scene: Scene) -> None:
    count = scene.dice.integer(1, 5)
    draw_cars(scene, scene.scatter(count), scene.dice.units(count))


def _stray_car_park(scene: Scene) -> None:
    dice = scene.dice
    lay_car_park(scene, scene.frame(wander=0.5), dice.uniform(8.0, 20.0), dice.uniform(5.0, 9.0), dice.unit())


def _stray_pond(scene: Scene) -> None:
    lay_pond(scene, scene.frame(wander=0.5), scene.dice.uniform(4.0, 10.0))


def _stray_trees(scene: Scene) -> None:
    scatter_trees(scene, scene.dice.integer(4, 25))


_STRAYS: tuple[tuple[Callable[[Scene], None], float], ...] = (
    (_stray_road, 0.25),
    (_stray_car_park, 0.15),
    (_stray_pond, 0.08),
    (_stray_houses, 0.2),
    (_stray_cars, 0.2),
    (_stray_trees, 0.6),
)


def lay_surroundings(scene: Scene, kinds: tuple[str, ...] = ("grass", "meadow", "dry", "concrete")) -> None:
    """Ground for the whole picture plus things any class may have around its subject."""
    lay_ground(scene, scene.dice.pick(kinds))
    if scene.dice.chance(0.5):
        lay_patches(scene, scene.dice.pick(("grass", "dry", "meadow", "soil")), scene.dice.uniform(0.2, 0.6), 30.0)
    draw_strays(scene)


def draw_strays(scene: Scene, frequency: float = 1.0) -> None:
    """Things found in any class, on purpose: a tree, a car or a pond must not tell which class a scene is of.

    Args:
        scene: Where to draw.
        frequency: Scales how likely each kind is to appear.
    """
    for draw, probability in _STRAYS:
        if scene.dice.chance(frequency * probability):
            draw(scene)
