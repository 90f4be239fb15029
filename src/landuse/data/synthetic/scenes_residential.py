"""Housing: estates at two densities, lone houses and mobile-home parks."""

from dataclasses import dataclass

import numpy as np

from landuse.data.synthetic.drawing import Frame, Tiling
from landuse.data.synthetic.randomness import FloatArray
from landuse.data.synthetic.scenes_common import Scene, lay_ground, lay_patches, palette_colours
from landuse.data.synthetic.scenes_parts import (
    FLAT_ROOF_COLOURS,
    Boxes,
    draw_blocks,
    draw_cars,
    draw_houses,
    draw_trees,
    lay_road,
    lay_surroundings,
    scatter_trees,
)

Range = tuple[float, float]

_POOL_COLOUR = np.array([(0.25, 0.62, 0.70)])
_DRIVE_COLOUR = np.array([(0.60, 0.59, 0.56)])
_MOBILE_ROOF_COLOURS = 0.6 * FLAT_ROOF_COLOURS + 0.3


@dataclass(frozen=True)
class Estate:
    """How a housing estate is laid out; lengths in metres.

    Attributes:
        lot_width, lot_depth: Range of the size of the ground that belongs to one house.
        house: Half length and half width of a house before it varies by a fifth.
        street: Range of the half width of the streets between the blocks.
        trees: Trees per lot.
        pools: Share of the lots with a pool.
    """

    lot_width: Range
    lot_depth: Range
    house: tuple[float, float]
    street: Range
    trees: float
    pools: float


# The ranges leave a gap on purpose: a scene of one density cannot be mistaken for the other.
DENSE = Estate((11.5, 14.5), (17.0, 21.5), (6.3, 4.9), (3.0, 4.0), 0.6, 0.06)
MEDIUM = Estate((20.0, 26.0), (27.0, 34.0), (8.2, 6.2), (3.5, 4.5), 2.0, 0.2)


def _lay_streets(
    scene: Scene, frame: Frame, lot: tuple[float, float], street: float, *, lanes: int, cars: int
) -> FloatArray:
    """Lay parallel streets along u with a row of lots on either side.

    Args:
        scene: Where to draw.
        frame: Its u axis is the middle of one of the streets.
        lot: Width and depth of a lot.
        street: Half width of the streets.
        lanes: Lanes of each street.
        cars: Largest number of cars on each street.

    Returns:
        (N, 3) lots in or near the picture: u and v of the middle, and on which side of its street (-1 or 1) it lies.
    """
    width, depth = lot
    period = 2.0 * (depth + street)
    reach = 1.1 * scene.canvas.extent_m
    streets, columns = int(reach / period) + 1, int(reach / width) + 1
    ground = scene.dice.pick(("asphalt", "asphalt", "concrete"))
    lots: list[tuple[float, float, float]] = []
    for index in range(-streets, streets + 1):
        middle = index * period
        lay_road(scene, frame.moved(0.0, middle), street, lanes=lanes, ground=ground, divided=False, cars=cars)
        shift = scene.dice.uniform(-0.5, 0.5) * width
        lots.extend(
            (column * width + shift, middle + side * (street + 0.5 * depth), side)
            for column in range(-columns, columns + 1)
            for side in (-1.0, 1.0)
        )
    plan = np.array(lots)
    return plan[scene.shows(frame.world(plan[:, :2]), 10.0)]


def _draw_estate(scene: Scene, estate: Estate) -> None:
    """Streets with houses on lots, gardens, trees and cars."""
    canvas, dice = scene.canvas, scene.dice
    lay_ground(scene, dice.pick(("grass", "meadow", "dry", "concrete")), cell_m=14.0)
    frame = scene.frame(wander=0.25)
    gardens = Tiling(dice, *scene.local(frame), estate.lot_width[0], estate.lot_depth[0])
    canvas.shade(0.85 + 0.3 * gardens.units())
    lay_patches(scene, dice.pick(("grass", "meadow", "soil")), 0.4, 12.0)
    lot = dice.uniform(*estate.lot_width), dice.uniform(*estate.lot_depth)
    street = dice.uniform(*estate.street)
    lots = _lay_streets(scene, frame, lot, street, lanes=2, cars=4)
    if dice.chance(0.35):
        crossing = frame.moved(dice.uniform(-0.3, 0.3) * canvas.extent_m, 0.0, 0.25)
        lay_road(scene, crossing, street, divided=False, cars=2)
    _draw_gardens(scene, frame, lots, lot, estate.pools)
    _draw_lot_houses(scene, frame, lots, lot, estate.house)
    trees = int(estate.trees * len(lots) * dice.uniform(0.5, 1.5))
    draw_trees(scene, scene.scatter(trees), dice.uniforms(1.3, 3.6, trees))


def _draw_gardens(scene: Scene, frame: Frame, lots: FloatArray, lot: tuple[float, float], pools: float) -> None:
    """The drive in front of every house of the lots (N, 3), and a pool behind some of them."""
    dice = scene.dice
    count, side = len(lots), lots[:, 2]
    width, depth = lot
    turns = np.full(count, frame.turns)
    drives = lots[:, :2] + np.stack([np.full(count, 0.32 * width), -0.32 * side * depth], axis=1)
    paved = Boxes(frame.world(drives), turns, np.array([[1.6, 0.18 * depth]]) + np.zeros((count, 2)))
    draw_blocks(scene, paved, palette_colours(dice, _DRIVE_COLOUR, count), 0.0)
    chosen = dice.units(count) < pools
    behind = lots[:, :2] + np.stack([dice.uniforms(-0.25, 0.25, count) * width, 0.34 * side * depth], axis=1)
    basins = Boxes(frame.world(behind), turns, dice.uniforms(1.8, 3.6, count, 2))
    draw_blocks(scene, basins[chosen], palette_colours(dice, _POOL_COLOUR, count)[chosen], 0.0)


def _draw_lot_houses(
    scene: Scene, frame: Frame, lots: FloatArray, lot: tuple[float, float], house: tuple[float, float]
) -> None:
    """A house on each of the lots (N, 3), some turned by a quarter, some with a wing towards the street."""
    dice = scene.dice
    count, side = len(lots), lots[:, 2]
    width, depth = lot
    centres = lots[:, :2] + np.stack([dice.uniforms(-0.06, 0.06, count) * width, -0.06 * side * depth], axis=1)
    halves = np.array(house) * dice.uniforms(0.82, 1.12, count, 2)
    turns = frame.turns + np.where(dice.units(count) < 0.35, 0.25, 0.0)
    draw_houses(scene, Boxes(frame.world(centres), turns, halves))
    wings = centres + np.stack([np.full(count, 0.2 * width), -0.16 * side * depth], axis=1)
    winged = dice.units(count) < 0.5
    draw_houses(scene, Boxes(frame.world(wings), np.full(count, frame.turns + 0.25), 0.62 * halves)[winged])


def draw_denseresidential(scene: Scene) -> None:
    """Houses wall to wall along narrow streets."""
    _draw_estate(scene, DENSE)


def draw_mediumresidential(scene: Scene) -> None:
    """Detached houses with gardens."""
    _draw_estate(scene, MEDIUM)


def draw_sparseresidential(scene: Scene) -> None:
    """One or two large houses on wide land with trees."""
    dice = scene.dice
    lay_surroundings(scene, ("grass", "meadow", "dry"))
    count = dice.integer(1, 2)
    anchor = scene.frame(wander=0.15)
    apart = dice.uniform(40.0, 56.0)
    for house in range(count):
        along = (house - 0.5 * (count - 1)) * apart
        _draw_homestead(scene, anchor.moved(along, dice.uniform(-10.0, 10.0), dice.uniform(-0.1, 0.1)))
    scatter_trees(scene, dice.integer(8, 35), 1.5, 4.5)


def _draw_homestead(scene: Scene, plot: Frame) -> None:
    """A house with a wing, a drive that leads out of the picture, trees, perhaps a shed and a pool."""
    canvas, dice = scene.canvas, scene.dice
    u, v = scene.local(plot)
    drive = canvas.strip(u - 3.0, dice.uniform(1.3, 2.2)) * canvas.inside(-v)
    lay_ground(scene, dice.pick(("concrete", "dry", "asphalt")), drive, cell_m=9.0, octaves=2)
    draw_trees(scene, plot.world(dice.uniforms(-24.0, 24.0, 14, 2)), dice.uniforms(2.0, 5.0, 14))
    draw_houses(scene, Boxes.single(plot, dice.uniform(9.0, 12.0), dice.uniform(6.0, 8.0)))
    wing = plot.moved(dice.uniform(6.0, 9.0), dice.pick((-6.0, 6.0)), 0.25)
    draw_houses(scene, Boxes.single(wing, dice.uniform(5.8, 7.8), dice.uniform(3.9, 5.2)))
    if dice.chance(0.5):
        shed = plot.moved(dice.uniform(-22.0, -16.0), dice.uniform(-14.0, 14.0))
        draw_houses(scene, Boxes.single(shed, dice.uniform(2.5, 4.0), dice.uniform(2.5, 4.0)))
    if dice.chance(0.3):
        draw_blocks(scene, Boxes.single(plot.moved(dice.uniform(-5.0, 5.0), -13.0), 4.5, 2.5), _POOL_COLOUR, 0.0)


def draw_mobilehomepark(scene: Scene) -> None:
    """Narrow pale homes in close rows, slanted against the lanes."""
    dice = scene.dice
    lay_ground(scene, dice.pick(("concrete", "dry", "asphalt", "grass")), cell_m=10.0)
    lay_patches(scene, dice.pick(("grass", "meadow")), 0.4, 9.0)
    frame = scene.frame(wander=0.25)
    pitch, home = dice.uniform(7.6, 9.2), dice.uniform(7.6, 9.0)
    lots = _lay_streets(scene, frame, (pitch, 2.0 * home + 0.6), dice.uniform(2.6, 3.4), lanes=1, cars=2)
    lots = lots[dice.units(len(lots)) < 0.94]
    count = len(lots)
    turns = frame.turns + 0.25 + dice.uniform(0.03, 0.08) * dice.pick((-1.0, 1.0)) * lots[:, 2]
    halves = np.stack([home * dice.uniforms(0.82, 0.95, count), dice.uniforms(2.1, 2.7, count)], axis=1)
    draw_houses(scene, Boxes(frame.world(lots[:, :2]), turns, halves), _MOBILE_ROOF_COLOURS)
    beside = frame.world(lots[:, :2] + np.array([0.5 * pitch, 0.0]))
    parked = dice.units(count) < 0.4
    draw_cars(scene, beside[parked], turns[parked])
    scatter_trees(scene, dice.integer(0, 18), 1.2, 2.6)
