"""What ground images show: read from configurations and from descriptions of strangers."""

import pytest
import yaml

from landuse.config.folders import config_dir
from landuse.config.ground import Ground, ground_rules, read_ground
from landuse.config.schema import DataConfig


@pytest.mark.parametrize(
    ("content", "ground"),
    [
        ({}, Ground(None, None)),
        ({"gsd": None, "tile_size": None, "other": "x"}, Ground(None, None)),
        ({"gsd": 10, "tile_size": 64}, Ground(10.0, 64)),
        ({"gsd": 0.3}, Ground(0.3, None)),
        ({"gsd": 100_000, "tile_size": 1_000_000}, Ground(100_000.0, 1_000_000)),
    ],
)
def test_what_is_missing_is_unknown(content: dict[str, object], ground: Ground) -> None:
    assert read_ground(content) == ground
    assert isinstance(read_ground(content).gsd, float | None)


@pytest.mark.parametrize("value", [0, -0.3, float("nan"), float("inf"), 100_001, 10**400, True, "0.3", [0.3]])
def test_what_is_no_distance(value: object) -> None:
    with pytest.raises(ValueError, match="gsd must lie above 0"):
        read_ground({"gsd": value})


@pytest.mark.parametrize("value", [0, -1, 256.0, float("nan"), 1_000_001, 10**400, True, "256"])
def test_what_is_no_side(value: object) -> None:
    with pytest.raises(ValueError, match="tile_size must lie between 1 and 1,000,000 pixels"):
        read_ground({"tile_size": value})


def test_rules_name_the_key() -> None:
    assert list(ground_rules(DataConfig())) == list(ground_rules(DataConfig(gsd=0.3, tile_size=256))) == []
    first, second = ground_rules(DataConfig(gsd=-1.0, tile_size=0))
    assert first.startswith("data.gsd=-1.0: must lie above 0") and second.startswith("data.tile_size=0: must lie")


def test_what_is_known_of_the_datasets() -> None:
    described = {path.stem: yaml.safe_load(path.read_text()) for path in (config_dir() / "data").glob("*.yaml")}
    assert {name: content["gsd"] for name, content in described.items()} == {
        "ucmerced": 0.3, "landuse_scenes": 0.3, "eurosat": 10.0, "resisc45": None, "synthetic": None, "folder": None,
    }  # fmt: skip
