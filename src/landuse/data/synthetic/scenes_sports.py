"""Sports grounds: baseball, golf and tennis."""

import numpy as np

from landuse.data.synthetic.drawing import Colour, Frame, Tiling, length, smoothstep
from landuse.data.synthetic.scenes_common import (
    SHADOW,
    WHITE,
    Scene,
    lay_ground,
    lay_patches,
    mixed,
    tinted,
)
from landuse.data.synthetic.scenes_parts import (
    Boxes,
    draw_blocks,
    draw_trees,
    lay_pond,
    lay_road,
    lay_surroundings,
)


def draw_golfcourse(scene: Scene) -> None:
    """Mown fairway through rough, a green with its flag, bunkers and trees."""
    canvas, dice = scene.canvas, scene.dice
    lay_ground(scene, dice.pick(("grass", "grass", "meadow")), cell_m=12.0)
    if dice.chance(0.4):
        lay_patches(scene, dice.pick(("dry", "meadow", "soil")), 0.3, 25.0)
    fairway = scene.frame(wander=0.25, bend=0.006)
    u, v = scene.local(fairway)
    ragged = 9.0 * (canvas.clouds(dice, 22.0, 2) - 0.5)
    mown = canvas.inside(np.abs(v) + ragged - dice.uniform(11.0, 18.0), 1.0)
    lawn = mixed(tinted(dice, (0.34, 0.52, 0.22)), tinted(dice, (0.42, 0.60, 0.30)), canvas.noise(dice, 9.0))
    canvas.blend(mown, lawn)
    stripes = canvas.inside(np.abs(u - np.floor(u / 8.0 + 0.5) * 8.0) - 2.0)
    canvas.shade(1.0 + dice.uniform(0.0, 0.12) * stripes * mown)
    if dice.chance(0.3):
        lay_pond(scene, fairway.moved(dice.uniform(-30.0, 30.0), dice.uniform(20.0, 30.0)), dice.uniform(7.0, 14.0))
    _draw_green(scene, fairway)
    trees = scene.scatter(dice.integer(8, 40))
    trees = trees[np.abs(fairway.local(trees[:, 0], trees[:, 1])[1]) > 16.0]
    draw_trees(scene, trees, dice.uniforms(1.8, 4.5, len(trees)))
    if dice.chance(0.4):
        lay_road(scene, fairway.beside(dice.uniform(19.0, 25.0)), 1.3, lanes=1, ground="concrete")


def _draw_green(scene: Scene, fairway: Frame) -> None:
    """A green with its collar and hole, and bunkers around it and along the fairway."""
    canvas, dice = scene.canvas, scene.dice
    green = fairway.moved(dice.uniform(-25.0, 25.0), dice.uniform(-8.0, 8.0), dice.unit())
    size = dice.uniform(8.0, 13.0)
    u, v = scene.local(green)
    edge = length(u, dice.uniform(1.0, 1.5) * v) + 5.0 * (canvas.noise(dice, 9.0) - 0.5) - size
    canvas.blend(canvas.inside(edge - 2.0, 1.0) * 0.6, (0.30, 0.46, 0.20))
    canvas.blend(canvas.inside(edge), tinted(dice, (0.50, 0.68, 0.38), 0.04))
    canvas.blend(canvas.box(u, v, 0.5, 0.5), WHITE)
    for bunker in range(dice.integer(2, 6)):
        beside = green if bunker < 3 else fairway
        # Not on the hole: at least a green's radius away from it along u.
        away = dice.pick((-1.0, 1.0)) * dice.uniform(1.0, 1.8) * size
        u, v = scene.local(beside.moved(away, dice.uniform(-1.2, 1.2) * size))
        edge = length(u, 1.5 * v) + 6.0 * (canvas.noise(dice, 5.0) - 0.5) - dice.uniform(3.0, 6.5)
        canvas.blend(canvas.inside(edge - 0.7) * 0.35, SHADOW)
        canvas.blend(canvas.inside(edge), tinted(dice, (0.88, 0.82, 0.68), 0.04))


def draw_tenniscourt(scene: Scene) -> None:
    """One to six fenced courts side by side."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("grass", "meadow", "concrete", "dry"))
    frame = scene.frame(wander=0.1)
    columns, rows = dice.integer(1, 3), dice.integer(1, 2)
    pitch_u, pitch_v = dice.uniform(16.5, 18.5), dice.uniform(34.0, 37.0)
    half_u, half_v = 0.5 * columns * pitch_u, 0.5 * rows * pitch_v
    u, v = scene.local(frame)
    whole = canvas.box(u, v, half_u, half_v)
    surfaces: tuple[Colour, ...] = ((0.27, 0.45, 0.33), (0.25, 0.38, 0.55), (0.58, 0.33, 0.26), (0.42, 0.45, 0.45))
    outer, inner = dice.pick(surfaces), dice.pick(surfaces)
    canvas.blend(whole, mixed(tinted(dice, outer), (0.7, 0.7, 0.66), 0.25 * canvas.clouds(dice, 10.0)))
    courts = Tiling(dice, u + half_u, v + half_v, pitch_u, pitch_v)
    across, along = np.abs(courts.u), np.abs(courts.v)
    play = canvas.box(courts.u, courts.v, 5.5, 11.9)
    canvas.blend(whole * play, tinted(dice, inner))
    sides = np.maximum(canvas.strip(across - 5.5, 0.2), canvas.strip(across - 4.1, 0.2)) * canvas.strip(along, 11.9)
    ends = canvas.strip(along - 11.9, 0.2) * canvas.strip(across, 5.5)
    service = canvas.strip(along - 6.4, 0.2) * canvas.strip(across, 4.1)
    middle = canvas.strip(across, 0.2) * canvas.strip(along, 6.4)
    lines = np.maximum(np.maximum(sides, ends), np.maximum(service, middle))
    canvas.blend(whole * lines * dice.uniform(0.7, 1.0), WHITE)
    canvas.blend(whole * canvas.strip(along, 0.25) * canvas.strip(across, 6.2) * 0.8, SHADOW)
    fence = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)
    canvas.blend(canvas.strip(fence, 0.25) * 0.7, SHADOW)
    scatter = scene.scatter(dice.integer(4, 20))
    tree_u, tree_v = frame.local(scatter[:, 0], scatter[:, 1])
    scatter = scatter[(np.abs(tree_u) > half_u + 2.5) | (np.abs(tree_v) > half_v + 2.5)]
    draw_trees(scene, scatter, dice.uniforms(1.5, 3.5, len(scatter)))


def draw_baseballdiamond(scene: Scene) -> None:
    """Dirt infield with its grass square, mound, bases, foul lines and mown outfield."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("grass", "meadow", "dry", "concrete"))
    scale = dice.uniform(0.7, 1.05)
    heading = dice.unit()
    middle = Frame(dice.uniform(-8.0, 8.0), dice.uniform(-8.0, 8.0), heading)
    home = middle.moved(-22.0 * scale, 0.0)
    u, v = scene.local(home)
    to_first, to_third = (scene.local(home.moved(0.0, 0.0, turn))[0] for turn in (-0.125, 0.125))
    base = 27.4 * scale
    corner = np.minimum(to_first, to_third)
    outfield = canvas.inside(length(u, v) - dice.uniform(2.4, 3.4) * base) * canvas.inside(-corner - 6.0)
    lay_ground(scene, "grass", outfield, cell_m=20.0)
    stripes = canvas.inside(np.abs(u - np.floor(u / 9.0 + 0.5) * 9.0) - 2.25)
    canvas.shade(1.0 + dice.uniform(0.0, 0.18) * stripes * outfield)
    mound = length(u - 0.67 * base, v)
    dirt = canvas.inside(mound - 1.05 * base, 0.8) * canvas.inside(-corner - 3.0, 0.8)
    clay = dice.pick(((0.62, 0.42, 0.29), (0.70, 0.56, 0.41), (0.55, 0.36, 0.26)))
    paint = mixed(tinted(dice, clay), (0.80, 0.68, 0.54), 0.4 * canvas.clouds(dice, 8.0))
    canvas.blend(dirt, paint)
    if dice.chance(0.8):
        lawn = canvas.box(to_first - 0.5 * base, to_third - 0.5 * base, 0.5 * base - 2.0, 0.5 * base - 2.0)
        lawn = lawn * smoothstep(length(u, v), 4.0, 5.0) * smoothstep(mound, 2.6, 3.2)
        lay_ground(scene, "grass", lawn, cell_m=14.0)
    canvas.blend(canvas.inside(length(u, v) - 4.2), paint)
    fence = 2.3 * base
    for along, across in ((to_first, to_third), (to_third, to_first)):
        canvas.blend(canvas.box(along - 0.5 * fence, across, 0.5 * fence, 0.2), WHITE)
    bases = np.array(
        [(0.0, 0.0), (0.7071 * base, 0.7071 * base), (0.7071 * base, -0.7071 * base), (1.4142 * base, 0.0)]
    )
    plates = Boxes(home.world(bases), np.full(4, heading), np.full((4, 2), 0.5))
    draw_blocks(scene, plates, np.full((4, 3), 0.95), 0.0)
    trees = scene.scatter(dice.integer(2, 12))
    tree_u, tree_v = home.local(trees[:, 0], trees[:, 1])
    trees = trees[length(tree_u - 0.67 * base, tree_v) > 1.3 * base]
    draw_trees(scene, trees, dice.uniforms(1.5, 4.0, len(trees)))
