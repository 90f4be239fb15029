"""The scene every painter works on, its light, its colours and its grounds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landuse.data.synthetic.drawing import Canvas, Colour, Frame, smoothstep
from landuse.data.synthetic.randomness import Dice, FloatArray, cos_turns, direction, sin_turns

SHADOW: Colour = (0.05, 0.06, 0.10)
WHITE: Colour = (0.90, 0.90, 0.88)
YELLOW: Colour = (0.80, 0.66, 0.22)
GLASS: Colour = (0.10, 0.12, 0.15)

GROUNDS: dict[str, tuple[Colour, Colour]] = {
    "grass": ((0.22, 0.33, 0.15), (0.37, 0.47, 0.25)),
    "meadow": ((0.33, 0.36, 0.20), (0.50, 0.49, 0.30)),
    "dry": ((0.50, 0.43, 0.31), (0.68, 0.60, 0.45)),
    "soil": ((0.36, 0.27, 0.19), (0.52, 0.40, 0.29)),
    "sand": ((0.70, 0.62, 0.47), (0.84, 0.77, 0.62)),
    "asphalt": ((0.29, 0.29, 0.31), (0.40, 0.40, 0.41)),
    "concrete": ((0.55, 0.54, 0.51), (0.70, 0.69, 0.66)),
    "water": ((0.09, 0.19, 0.24), (0.17, 0.32, 0.36)),
    "jade": ((0.13, 0.27, 0.24), (0.24, 0.40, 0.34)),
    "murk": ((0.20, 0.22, 0.15), (0.31, 0.31, 0.21)),
}
"""Dark and light colour of each kind of ground; a texture blends between the two."""

WATERS = ("water", "water", "jade", "murk")


@dataclass(frozen=True)
class Scene:
    """A picture being drawn, with the light all of its objects share.

    Attributes:
        canvas: What is drawn on.
        dice: The only source of randomness.
        shadow: (x, y) displacement in metres of the shadow of something one metre tall.
        shadow_opacity: How dark shadows are.
        leaf: Colour of the trees of this place and season.
    """

    canvas: Canvas
    dice: Dice
    shadow: tuple[float, float]
    shadow_opacity: float
    leaf: Colour

    @property
    def half_m(self) -> float:
        """Half the width of the ground shown."""
        return 0.5 * self.canvas.extent_m

    def frame(self, wander: float = 0.15, bend: float = 0.0) -> Frame:
        """A frame of random direction near the middle; `wander` is the largest offset as a share of the extent."""
        reach = wander * self.canvas.extent_m
        x, y = self.dice.uniform(-reach, reach), self.dice.uniform(-reach, reach)
        return Frame(x, y, self.dice.unit(), self.dice.uniform(-bend, bend) if bend else 0.0)

    def local(self, frame: Frame) -> tuple[FloatArray, FloatArray]:
        """Coordinates (n, n) of all pixels in a frame."""
        return frame.local(self.canvas.x, self.canvas.y)

    def shows(self, places: FloatArray, margin_m: float) -> npt.NDArray[np.bool_]:
        """Mask (N,) of the places (N, 2) that lie in the picture or at most a margin outside."""
        limit = self.half_m + margin_m
        return (np.abs(places[:, 0]) < limit) & (np.abs(places[:, 1]) < limit)

    def scatter(self, count: int) -> FloatArray:
        """Places (count, 2) spread evenly over the picture."""
        return self.dice.uniforms(-self.half_m, self.half_m, count, 2)

    def shadow_in(self, frame: Frame) -> tuple[float, float]:
        """The displacement `shadow` in the axes of a frame."""
        cos, sin = direction(frame.turns)
        return self.shadow[0] * cos + self.shadow[1] * sin, self.shadow[1] * cos - self.shadow[0] * sin

    def sunlit(self, turns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The unit vector towards the sun, (N, 1, 1) each, in the local axes of objects with these directions."""
        sx, sy = -self.shadow[0], -self.shadow[1]
        scale = 1.0 / float(np.sqrt(sx * sx + sy * sy))
        cos, sin = cos_turns(turns)[:, None, None], sin_turns(turns)[:, None, None]
        return (sx * cos + sy * sin) * scale, (sy * cos - sx * sin) * scale


def tinted(dice: Dice, colour: Colour, spread: float = 0.06) -> Colour:
    """A colour near the given one: mostly lighter or darker, a little shifted in hue."""
    light = dice.uniform(1.0 - 2.0 * spread, 1.0 + 2.0 * spread)
    red, green, blue = (channel * light * dice.uniform(1.0 - spread, 1.0 + spread) for channel in colour)
    return red, green, blue


def palette_colours(dice: Dice, palette: FloatArray, count: int, spread: float = 0.1) -> FloatArray:
    """Random colours (count, 3) of a palette (K, 3), each a little lighter or darker."""
    choice = (dice.units(count) * len(palette)).astype(np.int64)
    colours: FloatArray = palette[choice] * dice.uniforms(1.0 - spread, 1.0 + spread, count, 1)
    return colours


def mixed(dark: Colour, light: Colour, share: FloatArray) -> FloatArray:
    """Picture (3, n, n) that runs from one colour to the other with the share (n, n)."""
    low: FloatArray = np.array(dark)[:, None, None]
    high: FloatArray = np.array(light)[:, None, None]
    return low + (high - low) * share


def lay_ground(
    scene: Scene, kind: str, coverage: FloatArray | None = None, cell_m: float = 18.0, octaves: int = 4
) -> None:
    """Cover the picture, or the part given by a coverage (n, n), with a textured ground of `GROUNDS`."""
    dark, light = GROUNDS[kind]
    dice = scene.dice
    share = 0.75 * scene.canvas.clouds(dice, cell_m, octaves) + 0.25 * scene.canvas.noise(dice, 1.0)
    shift = dice.uniform(-0.25, 0.25)
    paint = mixed(tinted(dice, dark), tinted(dice, light), share + shift)
    if coverage is None:
        scene.canvas.pixels[...] = paint
    else:
        scene.canvas.blend(coverage, paint)


def lay_patches(scene: Scene, kind: str, share: float, cell_m: float) -> None:
    """Soft-edged patches of another ground over about the given share of the picture."""
    edge = 0.75 - 0.5 * share
    lay_ground(scene, kind, smoothstep(scene.canvas.clouds(scene.dice, cell_m), edge - 0.06, edge + 0.06))
