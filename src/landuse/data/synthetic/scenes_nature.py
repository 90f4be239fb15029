"""Land that is mostly not built on: fields, coast, shrubland, forest and rivers."""

import numpy as np

from landuse.data.synthetic.drawing import Frame, Tiling, clip_unit, length, smoothstep
from landuse.data.synthetic.randomness import FloatArray, sin_turns
from landuse.data.synthetic.scenes_common import (
    SHADOW,
    WATERS,
    WHITE,
    Scene,
    lay_ground,
    tinted,
)
from landuse.data.synthetic.scenes_parts import (
    Boxes,
    draw_blocks,
    draw_houses,
    draw_strays,
    lay_pond,
    lay_road,
    lay_surroundings,
    scatter_trees,
)

_CROPS = ("grass", "meadow", "soil", "dry", "grass")


def _lay_crowns(
    scene: Scene,
    pitch_m: float,
    fullness: float,
    where: FloatArray | float = 1.0,
    planted: Frame | None = None,
) -> None:
    """One layer of crowns or shrubs.

    Args:
        scene: Where to draw.
        pitch_m: Distance between neighbours; crowns are a little narrower.
        fullness: Share of the places that are taken.
        where: Coverage (n, n) of the ground they grow on.
        planted: Rows and columns of an orchard; without it they grow anywhere.
    """
    canvas, dice = scene.canvas, scene.dice
    frame = planted or scene.frame(wander=0.5)
    cells = Tiling(dice, *scene.local(frame), pitch_m, pitch_m)
    radius = pitch_m * (0.22 + 0.26 * cells.units() if planted is None else 0.32 + 0.1 * cells.units())
    slack = 0.5 * pitch_m - radius if planted is None else 0.1 * pitch_m
    du = cells.u - slack * (2.0 * cells.units() - 1.0)
    dv = cells.v - slack * (2.0 * cells.units() - 1.0)
    # Almost a yes or no for each crown: a crown thinned with the coverage would look transparent.
    grown = clip_unit(6.0 * (fullness * where - cells.units()))
    shadow_u, shadow_v = scene.shadow_in(frame)
    shade = length(du - 0.5 * shadow_u * radius, dv - 0.5 * shadow_v * radius) - radius
    canvas.blend(canvas.inside(shade) * grown * scene.shadow_opacity, SHADOW)
    tone = 0.7 + 0.55 * cells.units()
    light = tone * (1.0 - 0.22 * (du * shadow_u + dv * shadow_v) / radius)
    red, green, blue = tinted(dice, scene.leaf, 0.08)
    canvas.blend(canvas.inside(length(du, dv) - radius) * grown, np.stack([light * red, light * green, light * blue]))


def _lay_crop_rows(scene: Scene, frame: Frame, field: FloatArray) -> None:
    """Rows of plants, or furrows, along u inside the coverage `field` (n, n)."""
    canvas, dice = scene.canvas, scene.dice
    lay_ground(scene, dice.pick(_CROPS), field, cell_m=35.0)
    _, v = scene.local(frame)
    period = dice.uniform(0.045, 0.085) * canvas.extent_m
    wobble = 0.6 * canvas.noise(dice, 25.0) / period
    wave = 0.5 + 0.5 * sin_turns(v / period + wobble)
    canvas.shade(1.0 - dice.uniform(0.18, 0.42) * wave * field)
    if dice.chance(0.3):
        wheels = canvas.strip(v - np.floor(v / 24.0 + 0.5) * 24.0, 0.7)
        canvas.blend(wheels * field * 0.5, (0.55, 0.48, 0.36))


def _lay_pivot(scene: Scene) -> None:
    """A field watered by a rotating arm: rings around a centre that may lie outside the picture."""
    canvas, dice = scene.canvas, scene.dice
    frame = scene.frame(wander=0.6)
    u, v = scene.local(frame)
    radius = length(u, v)
    reach = dice.uniform(0.55, 1.0) * canvas.extent_m
    field = canvas.inside(radius - reach)
    lay_ground(scene, dice.pick(_CROPS), field, cell_m=35.0)
    period = dice.uniform(0.045, 0.08) * canvas.extent_m
    canvas.shade(1.0 - dice.uniform(0.15, 0.35) * (0.5 + 0.5 * sin_turns(radius / period)) * field)
    canvas.blend(canvas.strip(radius - np.floor(radius / 30.0 + 0.5) * 30.0, 0.6) * field * 0.5, (0.55, 0.48, 0.36))
    canvas.blend(canvas.box(u - 0.5 * reach, v, 0.5 * reach, 0.5), WHITE)


def _lay_fields(scene: Scene) -> None:
    """One, two or four fields with rows, parted by farm tracks; now and then an orchard among them."""
    canvas, dice = scene.canvas, scene.dice
    frame = scene.frame(wander=0.4)
    u, v = scene.local(frame)
    if dice.chance(0.35):
        _lay_crop_rows(scene, frame, np.ones_like(u))
        return
    gap = dice.uniform(1.0, 3.5)
    both_sides = dice.chance(0.5)
    for side_u in (u - gap, -u - gap):
        for side_v in (v - gap, -v - gap) if both_sides else (np.full_like(v, -2.0 * canvas.extent_m),):
            field = canvas.inside(side_u) * canvas.inside(side_v)
            turned = frame.moved(0.0, 0.0, 0.25 * dice.integer(0, 1))
            _lay_crop_rows(scene, turned, field)
            if dice.chance(0.2):
                _lay_crowns(scene, dice.uniform(5.0, 8.0), 0.97, field, planted=turned)


def draw_agricultural(scene: Scene) -> None:
    """Fields with rows, or a field watered in a circle."""
    dice = scene.dice
    lay_ground(scene, dice.pick(("dry", "soil", "meadow")))
    if dice.chance(0.25):
        _lay_pivot(scene)
    else:
        _lay_fields(scene)
    if dice.chance(0.3):
        scatter_trees(scene, dice.integer(1, 5))
    if dice.chance(0.2):
        draw_houses(scene, Boxes(scene.scatter(1), dice.units(1), dice.uniforms(4.0, 8.0, 1, 2)))
    if dice.chance(0.2):
        lay_road(scene, scene.frame(wander=0.5), dice.uniform(2.0, 4.0), lanes=2, cars=2)


def draw_beach(scene: Scene) -> None:
    """Sea, surf, wet sand and dry sand along a wavy shore."""
    canvas, dice = scene.canvas, scene.dice
    _, v = scene.local(scene.frame(wander=0.2, bend=0.004))
    shore = v + 9.0 * (canvas.clouds(dice, 30.0, 2) - 0.5) + 3.0 * (canvas.noise(dice, 7.0) - 0.5)
    lay_ground(scene, dice.pick(("sand", "sand", "dry", "concrete")), cell_m=12.0)
    inland = dice.uniform(15.0, 45.0)
    dune = smoothstep(-shore + 12.0 * canvas.clouds(dice, 8.0), inland, inland + 10.0)
    lay_ground(scene, dice.pick(("meadow", "grass", "concrete", "dry")), dune * dice.uniform(0.5, 1.0), cell_m=6.0)
    count = dice.integer(0, 14)
    umbrellas = scene.scatter(count)
    halves = dice.uniforms(0.7, 1.5, count, 1) + np.zeros((count, 2))
    draw_blocks(scene, Boxes(umbrellas, dice.units(count), halves), dice.uniforms(0.2, 0.95, count, 3), 1.5)
    if dice.chance(0.35):
        scatter_trees(scene, dice.integer(1, 8))
    canvas.blend(canvas.inside(-shore - dice.uniform(3.0, 9.0), 3.0) * 0.6, (0.48, 0.40, 0.30))
    sea = canvas.inside(-shore, 1.5)
    lay_ground(scene, dice.pick(WATERS), sea, cell_m=40.0)
    shallow = sea * (1.0 - smoothstep(shore, 0.0, dice.uniform(12.0, 35.0)))
    canvas.blend(shallow * dice.uniform(0.3, 0.7), tinted(dice, (0.38, 0.56, 0.54)))
    for line in range(dice.integer(2, 4)):
        offset = shore - line * dice.uniform(6.0, 11.0) - 1.0 - 5.0 * canvas.noise(dice, 14.0)
        crest = canvas.inside(np.abs(offset) - dice.uniform(0.8, 2.2), 2.0)
        broken = smoothstep(canvas.clouds(dice, 5.0, 2), 0.2, 0.55)
        canvas.blend(crest * broken * sea * (0.95 - 0.15 * line), (0.93, 0.95, 0.95))


def draw_chaparral(scene: Scene) -> None:
    """Dry ground speckled with shrubs."""
    dice = scene.dice
    lay_ground(scene, dice.pick(("dry", "dry", "sand", "meadow")), cell_m=25.0)
    clumps = smoothstep(scene.canvas.clouds(dice, 30.0, 2), 0.1, dice.uniform(0.3, 0.6))
    for _ in range(dice.integer(2, 3)):
        pitch = dice.uniform(3.2, 6.0)
        _lay_crowns(scene, pitch, dice.uniform(0.35, 0.75), clumps)
    if dice.chance(0.3):
        lay_road(scene, scene.frame(wander=0.4, bend=0.003), dice.uniform(1.2, 2.2), lanes=1, ground="dry")
    draw_strays(scene, 0.3)


def draw_forest(scene: Scene) -> None:
    """A closed canopy of crowns, sometimes with a glade, a track or a pond."""
    dice = scene.dice
    lay_ground(scene, "grass")
    scene.canvas.pixels *= dice.uniform(0.45, 0.75)
    glade = scene.canvas.clouds(dice, 40.0, 2)
    where = smoothstep(glade, 0.2, 0.3) if dice.chance(0.5) else 1.0
    for pitch in (dice.uniform(8.0, 11.0), dice.uniform(6.5, 9.0), dice.uniform(5.0, 8.0), dice.uniform(4.5, 6.5)):
        _lay_crowns(scene, pitch, 0.9, where)
    if dice.chance(0.25):
        lay_road(scene, scene.frame(wander=0.4, bend=0.004), dice.uniform(1.5, 3.0), lanes=1, ground="dry")
    if dice.chance(0.12):
        lay_pond(scene, scene.frame(wander=0.5), dice.uniform(5.0, 10.0))
    draw_strays(scene, 0.2)


def draw_river(scene: Scene) -> None:
    """A winding river with banks, sand bars and trees along it."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("grass", "meadow", "dry", "soil"))
    frame = scene.frame(wander=0.12, bend=0.003)
    u, v = scene.local(frame)
    wave = dice.uniform(60.0, 130.0)
    v = v - dice.uniform(6.0, 15.0) * sin_turns(u / wave + dice.unit()) - 6.0 * (canvas.clouds(dice, 25.0, 2) - 0.5)
    width = dice.uniform(5.0, 14.0) * (0.8 + 0.4 * canvas.noise(dice, 40.0))
    bank = np.abs(v) - width
    for pitch in (7.0, 5.5, 4.5):
        belt = 1.0 - smoothstep(bank, dice.uniform(5.0, 10.0), dice.uniform(12.0, 26.0))
        _lay_crowns(scene, pitch, dice.uniform(0.3, 0.9), belt)
    lay_ground(scene, dice.pick(("soil", "sand", "dry")), canvas.inside(bank - dice.uniform(0.5, 3.0), 2.0), cell_m=8.0)
    lay_ground(scene, dice.pick(WATERS), canvas.inside(bank, 1.0), cell_m=25.0)
    if dice.chance(0.5):
        bar = clip_unit(canvas.inside(bank) * smoothstep(canvas.clouds(dice, 14.0, 2), 0.62, 0.68))
        lay_ground(scene, "sand", bar, cell_m=6.0)
