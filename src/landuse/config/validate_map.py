"""Rules for the keys of map; see :mod:`landuse.config.validate`."""

import re
from collections.abc import Iterator

from landuse.config.devices import device_rules
from landuse.config.messages import wrong_choice
from landuse.config.schema import Config, MapConfig
from landuse.config.validate import MOST_THREADS, not_finite
from landuse.config.validate_service import VARIANTS
from landuse.errors import UserError

LARGEST_STRIDE = 1_000_000  # pixels
LEAST_METRES, LARGEST_METRES = 0.0001, 1_000_000.0
MOST_SHARDS = 100_000
MOST_TILES = 128  # of a chunk, beyond which no batch reaches


def validate_map(config: Config) -> None:
    """Check the keys of the command map.

    Raises:
        UserError: the first rule that is broken.
    """
    for rule in (not_finite(config.map, "map."), _whole(config), _map(config.map), device_rules(config.trainer.device)):
        for problem in rule:
            raise UserError(problem)


def parse_shard(text: str | None) -> tuple[int, int]:
    """``"2/4"`` as (2, 4); None is (1, 1), all of it.

    Raises:
        UserError: it is no such text.
    """
    if text is None:
        return 1, 1
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, of = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= number <= of <= MOST_SHARDS:
        raise UserError(f"shard={text}: give the i-th of n parts as i/n, from 1/n to n/n, such as shard=2/4.")
    return number, of


def _whole(config: Config) -> Iterator[str]:
    if config.variant not in VARIANTS:
        yield wrong_choice("variant", config.variant, VARIANTS)
    if not config.output:
        yield "output= is missing: name the folder for the map, such as output=map."
    if not config.input and not config.map.merge:
        yield "input= is missing: give a scene, a folder of scenes, a quoted pattern, or an address (https://, gs://)."
    parse_shard(config.shard)
    if config.shard is not None and config.map.merge:
        yield "shard= makes one part and merge joins all: leave one of them out."


def _map(asked: MapConfig) -> Iterator[str]:
    if not 0 < asked.stride <= LARGEST_STRIDE or (asked.stride > 1 and not asked.stride.is_integer()):
        yield f"map.stride={asked.stride}: must be a share of a tile up to 1, such as 0.5, or whole pixels."
    if not 0 <= asked.min_confidence <= 1:
        yield f"map.min_confidence={asked.min_confidence}: is a probability between 0 and 1, such as 0.6."
    for name in ("gsd", "tile_m"):
        value = getattr(asked, name)
        if value is not None and not LEAST_METRES <= value <= LARGEST_METRES:
            yield f"map.{name}={value}: must lie between {LEAST_METRES} and {LARGEST_METRES:,.0f} metres."
    if asked.value_range is not None and not (
        len(asked.value_range) == 2 and asked.value_range[0] < asked.value_range[1]
    ):
        yield f"map.value_range={list(asked.value_range)}: needs [low,high] with low < high, such as [0,3000]."
    for name, largest in (("batch_size", MOST_TILES), ("num_workers", MOST_THREADS)):
        value = getattr(asked, name)
        if value is not None and not 1 <= value <= largest:
            yield f"map.{name}={value}: must lie between 1 and {largest:,}."
