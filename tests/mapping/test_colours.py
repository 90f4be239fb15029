"""Colours of classes: far apart, and what their names make one expect."""

import colorsys

import numpy as np
import pytest

from landuse.errors import UserError
from landuse.mapping import colours
from landuse.mapping.colours import UNCLASSIFIED, class_colours

UC_MERCED = (
    "agricultural airplane baseballdiamond beach buildings chaparral denseresidential forest freeway golfcourse harbor "
    "intersection mediumresidential mobilehomepark overpass parkinglot river runway sparseresidential storagetanks "
    "tenniscourt"
)
EUROSAT = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
RESISC45 = (
    "airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland cloud "
    "commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor industrial_area "
    "intersection island lake meadow medium_residential mobile_home_park mountain overpass palace parking_lot railway "
    "railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg sparse_residential stadium "
    "storage_tank tennis_court terrace thermal_power_station wetland"
)


def hue(code: str) -> float:
    """In degrees: red 0, yellow 60, green 120, blue 240."""
    return 360 * colorsys.rgb_to_hls(*(byte / 255 for byte in bytes.fromhex(code[1:])))[0]


@pytest.mark.parametrize(
    ("names", "distance"),
    [
        (UC_MERCED.split(), 0.08),
        (EUROSAT.split(), 0.08),
        (RESISC45.split(), 0.06),
        ([f"class {i}" for i in range(254)], 0.04),
        ([f"forest {i}" for i in range(60)], 0.04),
    ],
)
def test_colours_differ_from_each_other_and_from_what_is_unclassified(names: list[str], distance: float) -> None:
    codes = class_colours(names, {})
    lab = colours._lab([*codes, UNCLASSIFIED])
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 9 * np.eye(len(lab))
    assert apart.min() > distance
    assert codes == class_colours(names, {})


@pytest.mark.parametrize("names", [UC_MERCED.split(), EUROSAT.split(), RESISC45.split()])
def test_names_that_say_what_they_are_get_the_hue_that_one_expects(names: list[str]) -> None:
    code = {
        name.casefold().replace("_", ""): colour for name, colour in zip(names, class_colours(names, {}), strict=True)
    }
    expected = {
        "forest": (80, 170), "chaparral": (60, 140), "golfcourse": (80, 170), "meadow": (80, 170),
        "herbaceousvegetation": (70, 140), "pasture": (70, 140), "river": (195, 260), "lake": (195, 260),
        "sealake": (195, 260), "agricultural": (40, 75), "annualcrop": (40, 75), "circularfarmland": (40, 75),
        "beach": (35, 60), "desert": (25, 60),
    }  # fmt: skip
    found = {name for name in expected if name in code}
    assert len(found) >= 5
    for name in found:
        low, high = expected[name]
        assert low <= hue(code[name]) <= high, (name, code[name])
    if "residential" in code:
        assert hue(code["residential"]) < 20


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("parkinglot", "parkinglot"), ("mobile_home_park", "mobilehome"), ("SeaLake", "lake"), ("sea_ice", "seaice"),
        ("snowberg", "snow"), ("PermanentCrop", "permanentcrop"), ("ground_track_field", "trackfield"),
        ("thermal_power_station", "powerstation"), ("dense residential", "residential"),
    ],
)  # fmt: skip
def test_the_longest_word_counts(name: str, like: str) -> None:
    assert colours._expected(name) == colours.EXPECTED[like]


def test_what_was_given_counts_and_others_keep_away_from_it() -> None:
    codes = dict(zip(EUROSAT.split(), class_colours(EUROSAT.split(), {"River": "#1B7A3D"}), strict=True))
    assert codes["River"] == "#1b7a3d"
    assert codes["Forest"] != "#1b7a3d" and 70 < hue(codes["Forest"]) < 175


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Rivver": "#112233"}, "no class 'Rivver'; the nearest is 'River'"),
        ({"River": "blue"}, "'blue' is no colour for 'River': give red, green and blue"),
        ({"River": "#12345"}, "is no colour"),
        ({"River": 5}, "5 is no colour"),
    ],
)
def test_mistakes_are_named(given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_colours(EUROSAT.split(), given)
