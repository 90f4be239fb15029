"""Which colour a class has on maps: what its name makes one expect, and far from those of the other classes."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from landuse.errors import UserError

UNCLASSIFIED = "#b4b8bc"
# Part of a name -> the colour that its first class gets. The longest part that a name holds counts, so that
# "parkinglot" is no park and "mobilehomepark" neither.
EXPECTED = {
    # what grows
    "forest": "#1b7a3d", "tree": "#1b7a3d", "wood": "#2e7d32", "mangrove": "#2b6e4f", "chaparral": "#7f9a3e",
    "shrub": "#8aa05a", "scrub": "#8aa05a", "vegetation": "#7fb069", "herbaceous": "#7fb069", "meadow": "#8fd16a",
    "grass": "#8fd16a", "pasture": "#a3d977", "park": "#5cb85c", "golf": "#4fc46b", "wetland": "#4b9c8e",
    "marsh": "#4b9c8e",
    # what is grown
    "agricultur": "#d6c94a", "farm": "#d6c94a", "crop": "#e0d155", "annualcrop": "#e8d84a",
    "permanentcrop": "#b9a93a", "orchard": "#a5b53c", "vineyard": "#9aa62f", "terrace": "#c2b04e", "field": "#c9d46a",
    # water and ice
    "water": "#2f7fd0", "river": "#3d8fe0", "lake": "#1f5fb8", "sea": "#17509e", "ocean": "#123f86",
    "pond": "#4a9be0", "harbor": "#2aa5c9", "harbour": "#2aa5c9", "port": "#2aa5c9", "ship": "#34c0d8",
    "seaice": "#b5e3f0", "ice": "#c4ecf5", "snow": "#d8f3fa", "glacier": "#b5e3f0", "cloud": "#eef2f6",
    # bare ground
    "beach": "#f4e2a0", "sand": "#edd48a", "desert": "#e6bf7a", "island": "#e3c58b", "bare": "#b08a62",
    "barren": "#b08a62", "rock": "#9a7b5e", "soil": "#a67c52", "mountain": "#8c6b4f", "quarry": "#8a6a4a",
    "mine": "#7a5a40",
    # where people live and work
    "residential": "#e8604c", "dense": "#c0392b", "sparse": "#f5a38f", "building": "#b8433e", "urban": "#d04a3c",
    "builtup": "#d04a3c", "settlement": "#e8604c", "mobilehome": "#f08070", "church": "#d96fa0",
    "palace": "#c85a92", "commercial": "#d6478f", "industr": "#8e44ad", "storage": "#a569bd", "powerstation": "#6c3483",
    "stadium": "#e67e22", "court": "#f39c4a", "baseball": "#d2691e", "trackfield": "#e08a3c",
    # traffic; the greys are darker than that of what is unclassified
    "road": "#54505f", "street": "#54505f", "highway": "#54505f", "freeway": "#54505f", "intersection": "#6b6276",
    "overpass": "#453f52", "bridge": "#6f5f7a", "roundabout": "#7a6c86", "rail": "#3f3a46", "parkinglot": "#7d7488",
    "airport": "#4a4a68", "airplane": "#5f5fa0", "runway": "#35355a",
}  # fmt: skip
LOWEST_LIGHTNESS, HIGHEST_LIGHTNESS = 0.34, 0.93
HIGHEST_CHROMA = 0.19  # purer colours glare, so that they are left to maps of very many classes
LEAST_CHROMA = 0.07  # of classes whose names say nothing: greys are for traffic and for what is unclassified
HUE_RANGE_DEG, LIGHTNESS_RANGE = 24.0, 0.22  # around what is expected
DISTINCT = 0.08  # distance in OKLab from which two colours are told apart on a map without searching
JUST_DISTINCT = 0.05  # where nothing expected is further away than this from all others, anything else is taken

Lab = NDArray[np.float64]


def class_colours(names: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """A colour for each class, the same ones for the same names in the same order.

    Colours are chosen one after the other, each as far as possible from all before and from that of what is
    unclassified, in OKLab, where distances are about those that people see. Classes of known meaning come first and
    stay near the hue that one expects.

    Args:
        names: of the classes, as many as a map can hold.
        given: colours as "#rrggbb" by class name; they count before anything else.

    Returns:
        "#rrggbb" for each name.

    Raises:
        UserError: ``given`` names no class or no colour.
    """
    chosen = _checked(names, given)
    candidates = _Candidates()
    distances = np.full(len(candidates.codes), np.inf)
    for code in (UNCLASSIFIED, *chosen.values()):
        distances = np.minimum(distances, _distance(candidates.lab, _lab([code])[0]))
    expected = {name: _expected(name) for name in names}
    for name in sorted((name for name in names if name not in chosen), key=lambda name: expected[name] is None):
        code = _choose(candidates, distances, expected[name], [*chosen.values(), UNCLASSIFIED])
        chosen[name] = code
        distances = np.minimum(distances, _distance(candidates.lab, _lab([code])[0]))
    return [chosen[name] for name in names]


def _checked(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    for name, colour in given.items():
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.0)
            raise UserError(
                f"map.colours: the model has no class {name!r}; the nearest is {near[0] if near else 'none'!r}."
            )
        if not (isinstance(colour, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", colour)):
            raise UserError(
                f"map.colours: {colour!r} is no colour for {name!r}: give red, green and blue as six hexadecimal "
                "digits behind a hash, in quotes, such as '#1b7a3d'."
            )
    return {name: given[name].lower() for name in names if name in given}


def _expected(name: str) -> str | None:
    letters = re.sub(r"[^a-z]", "", name.casefold())
    found = [word for word in EXPECTED if word in letters]
    return EXPECTED[max(found, key=lambda word: (len(word), letters.index(word)))] if found else None


class _Candidates:
    """All colours that a class may get."""

    def __init__(self) -> None:
        levels = np.arange(0, 256, 15)
        values = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
        lab = _to_lab(values / 255)
        is_usable = (lab[:, 0] >= LOWEST_LIGHTNESS) & (lab[:, 0] <= HIGHEST_LIGHTNESS)
        self.lab: Lab = lab[is_usable]
        self.codes = ["#{:02x}{:02x}{:02x}".format(*value) for value in values[is_usable].tolist()]
        self.chroma = np.hypot(self.lab[:, 1], self.lab[:, 2])
        self.hue = np.degrees(np.arctan2(self.lab[:, 2], self.lab[:, 1]))

    def near(self, lab: Lab) -> NDArray[np.bool_]:
        """Those of about this hue and lightness."""
        chroma, hue = np.hypot(lab[1], lab[2]), np.degrees(np.arctan2(lab[2], lab[1]))
        turned = np.abs((self.hue - hue + 180) % 360 - 180)
        is_alike: NDArray[np.bool_] = (turned <= HUE_RANGE_DEG) & (self.chroma >= min(chroma * 0.6, LEAST_CHROMA))
        is_alike &= self.chroma <= max(chroma, HIGHEST_CHROMA)
        if chroma < LEAST_CHROMA:  # a grey: its hue counts little, but it must not become colourful
            is_alike = (self.chroma <= LEAST_CHROMA) & (turned <= 3 * HUE_RANGE_DEG)
        is_alike &= np.abs(self.lab[:, 0] - lab[0]) <= LIGHTNESS_RANGE
        return is_alike


def _choose(candidates: _Candidates, distances: Lab, expected: str | None, taken: Sequence[str]) -> str:
    if expected is not None:
        lab = _lab([expected])[0]
        if _distance(_lab(taken), lab).min() >= DISTINCT:
            return expected
        alike = np.where(candidates.near(lab), distances, -1)
        if alike.max() >= JUST_DISTINCT:
            return candidates.codes[int(alike.argmax())]
    for highest in (HIGHEST_CHROMA, np.inf):
        is_usable = (candidates.chroma >= LEAST_CHROMA) & (candidates.chroma <= highest)
        others = np.where(is_usable, distances, -1)
        if others.max() >= JUST_DISTINCT:
            break
    return candidates.codes[int(others.argmax())]


def _distance(colours: Lab, other: Lab) -> Lab:
    distances: Lab = np.linalg.norm(colours - other, axis=-1).round(6)  # ties fall alike on every machine
    return distances


def _lab(codes: Sequence[str]) -> Lab:
    return _to_lab(np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in codes]) / 255)


def _to_lab(srgb: Lab) -> Lab:
    """OKLab of sRGB, (N, 3) both (B. Ottosson, "A perceptual color space for image processing", 2020)."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    lab: Lab = np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return lab
