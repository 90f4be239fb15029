"""Canvas, shapes and textures: everything a scene is drawn with.

Lengths are metres, angles full turns. The origin lies in the middle of the picture, x points right and y down.
Edges are smoothed analytically: a shape gives the share of each pixel it covers, so no picture is drawn larger and
shrunk. Only exactly rounded operations are used (see `randomness`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landuse.data.synthetic.randomness import Dice, FloatArray, IntArray, cos_turns, direction, sin_turns

Colour = tuple[float, float, float]
"""Red, green and blue, each from 0 to 1."""

StampPainter = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""Maps local coordinates u, v (N, P, P) to opacity (N, P, P) and colour, broadcastable to (N, 3, P, P)."""


def clip_unit(values: FloatArray) -> FloatArray:
    """Values limited to [0, 1]."""
    return np.minimum(np.maximum(values, 0.0), 1.0)


def smoothstep(values: FloatArray, low: float, high: float) -> FloatArray:
    """Smooth rise from 0 at `low` to 1 at `high`."""
    t = clip_unit((values - low) / (high - low))
    return t * t * (3.0 - 2.0 * t)


def length(u: FloatArray, v: FloatArray) -> FloatArray:
    """Distance of (u, v) from the origin (np.hypot is not the same on every machine)."""
    return np.sqrt(u * u + v * v)


def segment_distance(u: FloatArray, v: FloatArray, start: tuple[float, float], end: tuple[float, float]) -> FloatArray:
    """Distance of each point from a straight segment."""
    du, dv = end[0] - start[0], end[1] - start[1]
    along = clip_unit(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv))
    return length(u - start[0] - along * du, v - start[1] - along * dv)


def convex_distance(u: FloatArray, v: FloatArray, corners: list[tuple[float, float]]) -> FloatArray:
    """Signed distance (negative inside) from a convex polygon; corners go round from +u towards +v."""
    distance: FloatArray | None = None
    for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
        du, dv = u1 - u0, v1 - v0
        scale = 1.0 / float(np.sqrt(du * du + dv * dv))
        side = ((u - u0) * dv - (v - v0) * du) * scale
        distance = side if distance is None else np.maximum(distance, side)
    if distance is None:
        raise ValueError("a polygon needs corners")
    return distance


@dataclass(frozen=True)
class Frame:
    """Local coordinates of something placed in the picture: u runs along it, v across it.

    Attributes:
        x, y: Where the origin of the frame lies, in metres.
        turns: Direction of the u axis.
        bend: Curvature in 1/m: the line v = 0 is the parabola that leaves the u axis by ``bend * u * u``.
    """

    x: float
    y: float
    turns: float
    bend: float = 0.0

    def local(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Local coordinates of points given in picture coordinates."""
        cos, sin = direction(self.turns)
        dx, dy = x - self.x, y - self.y
        u = dx * cos + dy * sin
        v = dy * cos - dx * sin
        return u, (v - self.bend * u * u if self.bend else v)

    def world(self, uv: FloatArray) -> FloatArray:
        """Picture coordinates (N, 2) of points given in local coordinates (N, 2)."""
        cos, sin = direction(self.turns)
        u = uv[:, 0]
        v = uv[:, 1] + self.bend * u * u
        return np.stack([self.x + u * cos - v * sin, self.y + u * sin + v * cos], axis=1)

    def headings(self, u: FloatArray) -> FloatArray:
        """Direction (N,) in turns of the bent u axis at the given places (N,), for gentle bends."""
        return self.turns + self.bend * u / 3.141592653589793

    def moved(self, u: float, v: float, turns: float = 0.0) -> "Frame":
        """A straight frame whose origin lies at (u, v) in this one, turned further by `turns`."""
        x, y = self.world(np.array([[u, v]]))[0]
        return Frame(float(x), float(y), self.turns + turns)

    def beside(self, v: float) -> "Frame":
        """A frame of the same direction and bend that lies `v` to the side of this one."""
        x, y = self.world(np.array([[0.0, v]]))[0]
        return Frame(float(x), float(y), self.turns, self.bend)


class Canvas:
    """A square picture under construction.

    Args:
        size_px: Width and height in pixels.
        extent_m: Width and height of the ground it shows.

    Attributes:
        pixels: (3, size_px, size_px) float64; planes first, which keeps the long axis contiguous.
        x, y: Picture coordinates of the pixel centres, (1, size_px) and (size_px, 1).
        pixel_m: Ground covered by one pixel.
    """

    def __init__(self, size_px: int, extent_m: float) -> None:
        self.size_px = size_px
        self.extent_m = extent_m
        self.pixel_m = extent_m / size_px
        centres = (np.arange(size_px, dtype=np.float64) + 0.5) * self.pixel_m - 0.5 * extent_m
        self.x: FloatArray = centres[None, :]
        self.y: FloatArray = centres[:, None]
        self.pixels: FloatArray = np.zeros((3, size_px, size_px))

    # Coverage: how much of each pixel a shape fills.

    def inside(self, distance: FloatArray, softness_m: float = 0.0) -> FloatArray:
        """Coverage of a shape from its signed distance (negative inside), with an edge at least one pixel wide."""
        return clip_unit(0.5 - distance / max(self.pixel_m, softness_m))

    def strip(self, offset: FloatArray, half_width: float | FloatArray) -> FloatArray:
        """Coverage of the strip ``|offset| < half_width``; strips thinner than a pixel fade as they should."""
        full = np.minimum(2.0 * half_width / self.pixel_m, 1.0)
        return np.minimum(np.maximum(0.5 + (half_width - np.abs(offset)) / self.pixel_m, 0.0), full)

    def box(self, u: FloatArray, v: FloatArray, half_u: float | FloatArray, half_v: float | FloatArray) -> FloatArray:
        """Coverage of the rectangle ``|u| < half_u, |v| < half_v``."""
        return self.strip(u, half_u) * self.strip(v, half_v)

    def dashes(self, along: FloatArray, period_m: float, dash_m: float) -> FloatArray:
        """Coverage of dashes that repeat along a line."""
        return self.strip(along - np.floor(along / period_m + 0.5) * period_m, 0.5 * dash_m)

    # Painting.

    def blend(self, coverage: FloatArray, colour: Colour | FloatArray) -> None:
        """Lay a colour, or a whole picture (3, n, n), over the pixels with the given opacity (n, n)."""
        paint = np.array(colour)[:, None, None] if isinstance(colour, tuple) else colour
        self.pixels += coverage * (paint - self.pixels)

    def shade(self, factor: FloatArray) -> None:
        """Multiply the brightness by a factor (n, n)."""
        self.pixels *= factor

    def stamp(self, centres: FloatArray, turns: FloatArray, reach_m: float, paint: StampPainter) -> None:
        """Paint N small objects in one go, each inside its own little window.

        Args:
            centres: (N, 2) picture coordinates.
            turns: (N,) directions of the local u axes.
            reach_m: No object reaches further than this from its centre.
            paint: Gives opacity and colour for the local coordinates of all windows at once.
        """
        if len(centres) == 0:
            return
        half, pixel = 0.5 * self.extent_m, self.pixel_m
        side = int(2.0 * reach_m / pixel) + 3
        first: IntArray = np.floor((centres - reach_m + half) / pixel - 0.5).astype(np.int64)
        steps = np.arange(side, dtype=np.float64) + 0.5
        dx = ((first[:, 0, None] + steps) * pixel - half - centres[:, 0, None])[:, None, :]
        dy = ((first[:, 1, None] + steps) * pixel - half - centres[:, 1, None])[:, :, None]
        cos, sin = cos_turns(turns)[:, None, None], sin_turns(turns)[:, None, None]
        opacity, colour = paint(dx * cos + dy * sin, dy * cos - dx * sin)
        colour = np.broadcast_to(colour, (len(centres), 3, side, side))
        for index, (left, top) in enumerate(first.tolist()):
            x0, x1 = max(left, 0), min(left + side, self.size_px)
            y0, y1 = max(top, 0), min(top + side, self.size_px)
            if x0 >= x1 or y0 >= y1:
                continue
            window = self.pixels[:, y0:y1, x0:x1]
            rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            window += opacity[index, rows, columns] * (colour[index, :, rows, columns] - window)

    # Textures.

    def noise(self, dice: Dice, cell_m: float) -> FloatArray:
        """Smooth value noise (n, n) in [0, 1) with blobs about `cell_m` wide.

        The lattice depends on the ground shown, not on the pixel count: a scene keeps its layout at every size.
        """
        cells = int(self.extent_m / cell_m) + 3
        lattice = dice.units(cells, cells)
        place = (np.arange(self.size_px, dtype=np.float64) + 0.5) * (self.pixel_m / cell_m)
        row, row_share = _lattice_place(place + dice.unit())
        column, column_share = _lattice_place(place + dice.unit())
        rows = lattice[row] + (lattice[row + 1] - lattice[row]) * row_share[:, None]
        return rows[:, column] + (rows[:, column + 1] - rows[:, column]) * column_share

    def clouds(self, dice: Dice, cell_m: float, octaves: int = 3) -> FloatArray:
        """Fractal value noise (n, n) in [0, 1): every octave is half as wide and half as strong as the last."""
        total, weight, share = self.noise(dice, cell_m), 1.0, 1.0
        for _ in range(octaves - 1):
            cell_m, share = 0.5 * cell_m, 0.5 * share
            total = total + share * self.noise(dice, cell_m)
            weight += share
        return total / weight


def _lattice_place(place: FloatArray) -> tuple[IntArray, FloatArray]:
    """Lattice index of each position and how far, smoothed, it has come towards the next."""
    index = np.floor(place)
    share = place - index
    return index.astype(np.int64), share * share * (3.0 - 2.0 * share)


class Tiling:
    """Endless repetition of one cell: draws hundreds of alike objects for the price of one.

    Args:
        dice: Source of the numbers that tell the cells apart.
        u: Local coordinates (n, n) of the pixels, along the first axis.
        v: Along the second.
        pitch_u: Size of a cell along the first axis.
        pitch_v: Along the second.

    Attributes:
        u, v: Coordinates (n, n) from the middle of the cell a pixel lies in.
    """

    _TABLE = 4096

    def __init__(self, dice: Dice, u: FloatArray, v: FloatArray, pitch_u: float, pitch_v: float) -> None:
        column, row = np.floor(u / pitch_u), np.floor(v / pitch_v)
        self.u: FloatArray = u - (column + 0.5) * pitch_u
        self.v: FloatArray = v - (row + 0.5) * pitch_v
        # Odd multipliers spread neighbouring cells over the table; a mask also wraps negative indices.
        self._cell: IntArray = (column.astype(np.int64) * 1237 + row.astype(np.int64) * 2731) & (self._TABLE - 1)
        self._dice = dice

    def units(self) -> FloatArray:
        """A fresh random number in [0, 1) for every cell, as a picture (n, n)."""
        return self._dice.units(self._TABLE)[self._cell]

    def colours(self, palette: FloatArray) -> FloatArray:
        """A random colour of the palette (K, 3) for every cell, as a picture (3, n, n)."""
        choice = (self._dice.units(self._TABLE) * len(palette)).astype(np.int64)
        return np.moveaxis(palette[choice][self._cell], -1, 0)
