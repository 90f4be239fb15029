"""Ways and places of traffic: aircraft, roads, bridges, harbours and runways."""

import numpy as np

from landuse.data.synthetic.drawing import Frame, Tiling, convex_distance, length, segment_distance
from landuse.data.synthetic.randomness import FloatArray
from landuse.data.synthetic.scenes_common import (
    GLASS,
    SHADOW,
    WHITE,
    YELLOW,
    Scene,
    lay_ground,
    palette_colours,
    tinted,
)
from landuse.data.synthetic.scenes_parts import (
    FLAT_ROOF_COLOURS,
    Boxes,
    draw_blocks,
    draw_cars,
    draw_houses,
    lay_car_park,
    lay_road,
    lay_surroundings,
)

_CABIN_COLOURS = np.array([(0.18, 0.27, 0.45), (0.32, 0.32, 0.34), (0.81, 0.81, 0.81), (0.54, 0.45, 0.36)])


def _aircraft_distance(u: FloatArray, v: FloatArray, span: float, engines: int) -> FloatArray:
    """Signed distance from an aircraft that points along +u and measures `span` from wing tip to wing tip."""
    side = np.abs(v)
    half, body, girth = 0.5 * span, 0.52 * span, 0.055 * span
    shape = segment_distance(u, v, (-body, 0.0), (body - girth, 0.0)) - girth * (1.0 - 0.25 * (u < -0.6 * body))
    wing = [(0.18 * span, 0.0), (-0.14 * span, half), (-0.20 * span, half), (-0.07 * span, 0.0)]
    tail = [(-0.72 * body, 0.0), (-0.92 * body, 0.19 * span), (-body, 0.19 * span), (-0.94 * body, 0.0)]
    shape = np.minimum(shape, convex_distance(u, side, wing))
    shape = np.minimum(shape, convex_distance(u, side, tail))
    for engine in range(engines):
        place = (0.16 + 0.15 * engine) * span
        ahead = 0.16 * span - 0.62 * place
        pod = segment_distance(u, side, (ahead - 0.03 * span, place), (ahead + 0.05 * span, place)) - 0.022 * span
        shape = np.minimum(shape, pod)
    return shape


def _draw_aircraft(scene: Scene, frame: Frame, span: float) -> None:
    """An aircraft of the given wing span with its shadow, a cheat line and cockpit windows."""
    canvas, dice = scene.canvas, scene.dice
    engines = dice.integer(0, 2)
    colour = np.array(tinted(dice, dice.pick(((0.93, 0.93, 0.93), (0.93, 0.93, 0.93), (0.74, 0.76, 0.78))), 0.03))
    accent = np.array(dice.pick(((0.70, 0.15, 0.15), (0.15, 0.25, 0.55), (0.30, 0.32, 0.34), (0.80, 0.55, 0.15))))
    place, turns = np.array([[frame.x, frame.y]]), np.array([frame.turns])
    sun_v = scene.sunlit(turns)[1]

    def shadow(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        opacity = canvas.inside(_aircraft_distance(u, v, span, engines)) * scene.shadow_opacity
        return opacity, np.array(SHADOW)[:, None, None]

    def body(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        hull = canvas.inside(np.abs(v) - 0.055 * span)
        light = 1.0 + hull * 0.25 * np.minimum(np.maximum(v * sun_v / (0.05 * span), -1.0), 1.0) - 0.06 * (1.0 - hull)
        painted = canvas.box(u + 0.48 * span, v, 0.09 * span, 0.02 * span)[:, None]
        paint = colour[:, None, None] * light[:, None]
        paint = paint + painted * (accent[:, None, None] - paint)
        cockpit = canvas.box(u - 0.47 * span, v, 0.012 * span, 0.03 * span)[:, None]
        paint = paint + cockpit * (np.array(GLASS)[:, None, None] - paint)
        return canvas.inside(_aircraft_distance(u, v, span, engines)), paint

    canvas.stamp(place + 0.08 * span * np.array(scene.shadow), turns, 0.62 * span, shadow)
    canvas.stamp(place, turns, 0.62 * span, body)


def draw_airplane(scene: Scene) -> None:
    """Aircraft parked side by side on an apron with taxi lines."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("grass", "meadow", "dry", "concrete"))
    frame = scene.frame(wander=0.1)
    u, v = scene.local(frame)
    apron = canvas.inside(-v - dice.uniform(0.15, 0.5) * canvas.extent_m)
    lay_ground(scene, dice.pick(("concrete", "concrete", "asphalt")), apron, cell_m=14.0)
    slab = Tiling(dice, u, v, 7.5, 7.5)
    canvas.shade(1.0 + apron * (0.06 * slab.units() - 0.03))
    span = dice.uniform(20.0, 40.0)
    canvas.blend(apron * canvas.strip(v - 0.75 * span, 0.3), YELLOW)
    pitch = span * dice.uniform(1.1, 1.4)
    heading = dice.pick((-0.25, 0.25)) + dice.uniform(-0.08, 0.08)
    reach = int(0.5 * canvas.extent_m / pitch)
    slots = [slot for slot in range(-reach, reach + 1) if slot == 0 or dice.chance(0.7)]
    for slot in slots:
        canvas.blend(apron * canvas.box(u - slot * pitch, v - 0.2 * span, 0.25, 0.55 * span), YELLOW)
        stand = frame.moved(slot * pitch, dice.uniform(-0.06, 0.06) * span, heading)
        _draw_aircraft(scene, stand, span * dice.uniform(0.8, 1.0))
    count = dice.integer(1, 7)
    along, across = dice.uniforms(-0.6, 0.6, count) * canvas.extent_m, dice.uniforms(0.55, 0.75, count) * span
    draw_cars(scene, frame.world(np.stack([along, across], axis=1)), dice.units(count))
    if dice.chance(0.35):
        gates = frame.moved(0.0, -0.95 * span)
        terminal = Boxes.single(gates, 0.8 * canvas.extent_m, 0.25 * span)
        draw_blocks(scene, terminal, palette_colours(dice, FLAT_ROOF_COLOURS, 1), 8.0)


def draw_freeway(scene: Scene) -> None:
    """Two carriageways with several lanes each, parted by a median."""
    dice = scene.dice
    lay_surroundings(scene, ("grass", "meadow", "dry"))
    frame = scene.frame(wander=0.12, bend=0.0015)
    _lay_carriageways(scene, frame, cars=14)
    if dice.chance(0.3):
        side = dice.pick((-1.0, 1.0))
        ramp = frame.moved(0.0, side * dice.uniform(26.0, 34.0), 0.03)
        lay_road(scene, ramp, 3.5, lanes=1, ground=dice.pick(("asphalt", "concrete")), cars=2)


def _lay_carriageways(scene: Scene, frame: Frame, cars: int) -> None:
    """Both carriageways of a freeway and the median along a frame."""
    canvas, dice = scene.canvas, scene.dice
    lanes = dice.integer(2, 4)
    half = 0.5 * (lanes + 0.5) * 3.7
    median = dice.uniform(1.5, 6.0)
    ground = dice.pick(("asphalt", "concrete"))
    _, v = scene.local(frame)
    lay_ground(scene, dice.pick(("dry", "concrete", "meadow")), canvas.strip(v, 2.0 * half + median + 3.0), cell_m=8.0)
    lay_ground(scene, dice.pick(("grass", "dry", "concrete")), canvas.strip(v, median), cell_m=5.0)
    for side in (-1.0, 1.0):
        carriageway = frame.beside(side * (half + median))
        lay_road(scene, carriageway, half, lanes=lanes, ground=ground, divided=False, cars=cars)
    if median < 3.0:
        canvas.blend(canvas.strip(v, 0.4), (0.75, 0.75, 0.73))


def draw_overpass(scene: Scene) -> None:
    """A road on a bridge across another road, its shadow on what lies below."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("grass", "meadow", "dry"))
    below = scene.frame(wander=0.1, bend=0.001)
    _lay_carriageways(scene, below, cars=10)
    above = Frame(below.x, below.y, below.turns + 0.25 + dice.uniform(-0.07, 0.07))
    if dice.chance(0.4):
        half = 0.5 * dice.uniform(14.0, 24.0)
        decks = [above.moved(0.0, -half), above.moved(0.0, half)]
        width = dice.uniform(5.0, min(half - 1.5, 8.0))
    else:
        decks = [above]
        width = dice.uniform(5.5, 11.0)
    lanes = max(2, int(2.0 * width / 3.7))
    ground = dice.pick(("asphalt", "concrete", "concrete"))
    height = dice.uniform(5.0, 8.0)
    for deck in decks:
        v = scene.local(deck)[1]
        shadow_v = scene.shadow_in(deck)[1]
        for drop in (3.0, height):
            canvas.blend(canvas.strip(v - drop * shadow_v, width + 0.8) * 0.6 * scene.shadow_opacity, SHADOW)
        canvas.blend(canvas.strip(v, width + 0.9), tinted(dice, (0.74, 0.73, 0.70), 0.04))
        lay_road(scene, deck, width, lanes=lanes, ground=ground, divided=len(decks) == 1, cars=6)


def draw_intersection(scene: Scene) -> None:
    """Two streets that cross on one level, with crossings, stop lines and built-up corners."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("grass", "concrete", "dry", "meadow"))
    main = scene.frame(wander=0.12)
    cross = Frame(main.x, main.y, main.turns + 0.25 + dice.uniform(-0.03, 0.03))
    ground = dice.pick(("asphalt", "asphalt", "concrete"))
    lanes = (dice.pick((2, 4, 4)), dice.pick((2, 2, 4)))
    halves = tuple(0.5 * (count + 0.5) * 3.5 for count in lanes)
    _draw_corners(scene, main, halves[0] + 3.0, halves[1] + 3.0)
    v, v_cross = scene.local(main)[1], scene.local(cross)[1]
    pavement = np.maximum(canvas.strip(v, halves[0] + 2.0), canvas.strip(v_cross, halves[1] + 2.0))
    canvas.blend(pavement * 0.8, tinted(dice, (0.66, 0.65, 0.62)))
    for frame, half, count in zip((main, cross), halves, lanes, strict=True):
        lay_road(scene, frame, half, lanes=count, ground=ground, cars=7)
    # The lines end where the streets meet, so the middle is paved once more.
    radius = 4.0
    to_v, to_cross = halves[0] + radius - np.abs(v), halves[1] + radius - np.abs(v_cross)
    corner = length(np.maximum(to_v, 0.0), np.maximum(to_cross, 0.0))
    near = canvas.strip(v, halves[0] + radius) * canvas.strip(v_cross, halves[1] + radius)
    lay_ground(scene, ground, near * canvas.inside(radius - corner), cell_m=9.0)
    zebra = dice.chance(0.7)
    for along, across, half, other in ((v_cross, v, halves[0], halves[1]), (v, v_cross, halves[1], halves[0])):
        beyond = np.abs(along) - other
        street = canvas.strip(across, half - 0.4)
        if zebra:
            bars = canvas.dashes(across, 1.8, 0.9)
            canvas.blend(canvas.strip(beyond - 2.4, 1.4) * bars * street * 0.9, WHITE)
        canvas.blend(canvas.strip(beyond - 5.0, 0.3) * street * 0.9, WHITE)
    count = dice.integer(0, 2)
    draw_cars(scene, main.world(dice.uniforms(-5.0, 5.0, count, 2)), main.turns + 0.25 * dice.units(count))


def _draw_corners(scene: Scene, frame: Frame, clear_v: float, clear_u: float) -> None:
    """Fill the four quarters around a crossing with a house, a flat roof, a car park or nothing."""
    dice = scene.dice
    for side_u in (-1.0, 1.0):
        for side_v in (-1.0, 1.0):
            what = dice.pick(("house", "flat roof", "car park", "nothing"))
            half = dice.uniform(8.0, 14.0)
            plot = frame.moved(side_u * (clear_u + half + 2.0), side_v * (clear_v + half + 2.0))
            if what == "house":
                draw_houses(scene, Boxes.single(plot, dice.uniform(5.0, 8.0), dice.uniform(5.0, 8.0)))
            elif what == "flat roof":
                colours = palette_colours(dice, FLAT_ROOF_COLOURS, 1)
                draw_blocks(scene, Boxes.single(plot, half, 0.8 * half), colours, 6.0)
            elif what == "car park":
                lay_car_park(scene, plot, half, half, dice.unit())


def draw_harbor(scene: Scene) -> None:
    """Docks with boats moored at right angles on both sides."""
    canvas, dice = scene.canvas, scene.dice
    lay_ground(scene, dice.pick(("water", "water", "jade")), cell_m=40.0)
    frame = scene.frame(wander=0.2)
    u, v = scene.local(frame)
    long, walk = dice.uniform(8.0, 15.0), dice.uniform(0.8, 1.5)
    pitch = 0.42 * long + dice.uniform(0.3, 1.2)
    period = 2.0 * (long + walk + 1.0) + dice.uniform(8.0, 16.0)
    across = v - np.floor(v / period + 0.5) * period
    slots = Tiling(dice, u, v, pitch, 0.5 * period)
    start = dice.uniform(-0.35, 0.1) * canvas.extent_m if dice.chance(0.6) else -canvas.extent_m
    docked = canvas.inside(start - u)
    depth = np.abs(across) - walk
    # Boats point away from the dock; their beam shrinks towards the bow.
    size = (0.72 + 0.26 * slots.units()) * long
    along = (depth - 0.6) / size
    beam = 0.17 * size * np.minimum(1.0, 2.2 * (1.0 - along))
    hull = canvas.strip(slots.u, np.maximum(beam, 0.0)) * canvas.strip(along * size - 0.5 * size, 0.5 * size)
    moored = (slots.units() < dice.uniform(0.6, 0.97)) * canvas.inside(start + 2.0 - u)
    shadow_u, shadow_v = scene.shadow_in(frame)
    outward = np.where(across >= 0.0, shadow_v, -shadow_v)
    shade = canvas.box(slots.u - 1.2 * shadow_u, depth - 0.6 - 0.5 * size - 1.2 * outward, 0.15 * size, 0.45 * size)
    canvas.blend(shade * moored * scene.shadow_opacity, SHADOW)
    canvas.blend(hull * moored, 0.35 * slots.colours(FLAT_ROOF_COLOURS) + 0.60)
    cabin = canvas.box(slots.u, depth - 0.6 - 0.42 * size, 0.55 * beam, 0.2 * size)
    canvas.blend(cabin * moored * 0.9, slots.colours(_CABIN_COLOURS))
    fingers = canvas.strip(np.abs(slots.u) - 0.5 * pitch, 0.3) * canvas.strip(depth - 0.4 * long, 0.4 * long)
    planks = tinted(dice, dice.pick(((0.62, 0.58, 0.52), (0.72, 0.71, 0.68))))
    canvas.blend(np.maximum(fingers, canvas.strip(across, walk)) * docked, planks)
    if start > -0.5 * canvas.extent_m:
        _lay_quay(scene, frame, start)


def _lay_quay(scene: Scene, frame: Frame, start: float) -> None:
    """Land on the side of a harbour the docks start from, with a main walk along its edge."""
    canvas, dice = scene.canvas, scene.dice
    u = scene.local(frame)[0]
    if dice.chance(0.6):
        canvas.blend(canvas.strip(u - start, 1.2), (0.70, 0.68, 0.64))
    edge = start - dice.uniform(2.0, 14.0)
    lay_ground(scene, dice.pick(("concrete", "asphalt", "dry", "grass")), canvas.inside(u - edge), cell_m=9.0)
    canvas.blend(canvas.strip(u - edge, 0.7), (0.74, 0.73, 0.70))
    if dice.chance(0.6):
        lay_car_park(scene, frame.moved(edge - 12.0, 0.0, 0.25), canvas.extent_m, 9.0, dice.unit())


def draw_runway(scene: Scene) -> None:
    """A wide paved strip with centre line, touchdown marks and rubber, no traffic."""
    canvas, dice = scene.canvas, scene.dice
    lay_surroundings(scene, ("grass", "meadow", "dry"))
    frame = scene.frame(wander=0.12)
    u, v = scene.local(frame)
    half = dice.uniform(11.0, 20.0)
    end = dice.uniform(-0.45, -0.1) * canvas.extent_m if dice.chance(0.7) else -3.0 * canvas.extent_m
    ground = dice.pick(("asphalt", "asphalt", "concrete"))
    shoulder = canvas.strip(v, half + 4.0) * canvas.inside(end - 12.0 - u)
    lay_ground(scene, dice.pick(("concrete", "dry", ground)), shoulder)
    paved = canvas.strip(v, half) * canvas.inside(end - u)
    lay_ground(scene, ground, paved, cell_m=20.0)
    rubber = canvas.inside(np.abs(v) - 0.3 * half, 0.4 * half) * canvas.clouds(dice, 12.0)
    canvas.blend(rubber * paved * dice.uniform(0.1, 0.5), (0.14, 0.14, 0.15))
    white = np.maximum(canvas.strip(np.abs(v) - half + 1.0, 0.45), canvas.strip(v, 0.45) * canvas.dashes(u, 24.0, 14.0))
    keys = canvas.box(u - end - 9.0, np.abs(v) - 0.5 * half, 6.0, 0.4 * half) * canvas.dashes(v, 3.4, 1.7)
    blocks = canvas.box(u - end - 45.0, np.abs(v) - 0.45 * half, 9.0, 1.6)
    canvas.blend(np.maximum(np.maximum(white, keys), blocks) * paved * dice.uniform(0.7, 1.0), WHITE)
    if dice.chance(0.5):
        taxi = frame.moved(dice.uniform(0.0, 0.3) * canvas.extent_m, 0.0, dice.pick((0.25, 0.17)))
        tu, tv = scene.local(taxi)
        way = canvas.strip(tv, 6.0) * canvas.inside(half - np.abs(v)) * canvas.inside(-tu)
        lay_ground(scene, ground, way)
        canvas.blend(canvas.strip(tv, 0.3) * way, YELLOW)
    if dice.chance(0.5):
        side = dice.pick((-1.0, 1.0)) * dice.uniform(2.0, 2.8) * half
        lay_ground(scene, ground, canvas.strip(v - side, 6.0))
        canvas.blend(canvas.strip(v - side, 0.35), YELLOW)
