"""What ground the images of a dataset show: the width of a pixel and of an image. One set of rules, wherever read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from landuse.config.schema import DataConfig

LARGEST_GSD = 100_000.0  # metres a pixel
LARGEST_TILE = 1_000_000  # pixels
GSD_RULE = f"must lie above 0 and not above {LARGEST_GSD:,.0f} metres a pixel, or be null"
TILE_RULE = f"must lie between 1 and {LARGEST_TILE:,} pixels, or be null"


@dataclass(frozen=True)
class Ground:
    """What is known of the files that a model learned from, before they were resized.

    Attributes:
        gsd: ground sampling distance in metres a pixel; None: unknown.
        tile_size: side of the square image in pixels; None: unknown.
    """

    gsd: float | None = None
    tile_size: int | None = None


def is_gsd(value: object) -> bool:
    """Whether this is a ground sampling distance; nan and inf are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST_GSD


def is_tile_size(value: object) -> bool:
    """Whether this is the side of an image in whole pixels."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_TILE


def ground_rules(data: DataConfig) -> Iterator[str]:
    """What is wrong with ``data.gsd`` and ``data.tile_size``."""
    if data.gsd is not None and not is_gsd(data.gsd):
        yield f"data.gsd={data.gsd}: {GSD_RULE}."
    if data.tile_size is not None and not is_tile_size(data.tile_size):
        yield f"data.tile_size={data.tile_size}: {TILE_RULE}."


def read_ground(content: Mapping[str, Any]) -> Ground:
    """The keys ``gsd`` and ``tile_size`` of a description that may come from a stranger; what is missing is unknown.

    Raises:
        ValueError: the first rule that they break, as a clause without a full stop.
    """
    gsd, tile_size = content.get("gsd"), content.get("tile_size")
    if gsd is not None and not is_gsd(gsd):
        raise ValueError(f"gsd {GSD_RULE}")
    if tile_size is not None and not is_tile_size(tile_size):
        raise ValueError(f"tile_size {TILE_RULE}")
    return Ground(None if gsd is None else float(gsd), tile_size)
