"""What the page and the picture of a map read from its facts."""

from typing import Any

from landuse.mapping.colours import UNCLASSIFIED


def file_name(facts: dict[str, Any]) -> str:
    """The scene's, without the folders that it lies in."""
    return str(facts["scene"]["path"]).replace("\\", "/").rstrip("/").rpartition("/")[2] or "scene"


def legend(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Value, name and colour of everything that a pixel with data can be."""
    return [*facts["classes"], {"value": facts["unclassified"], "name": "unclassified", "colour": UNCLASSIFIED}]


def is_class(entry: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether an entry of the areas is that of a class."""
    return bool(entry["value"] != facts["unclassified"])


def ranked(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The areas, largest first, and what is unclassified after them."""
    return sorted(facts["areas"], key=lambda entry: (not is_class(entry, facts), -entry["counted_share"]))


def hectares(area: float | None) -> str:
    """An area in three digits, whole from a hundred on; without the unit."""
    if not area:
        return "–" if area is None else "0"
    if area < 0.005:
        return "< 0.01"
    return f"{area:,.0f}" if area >= 99.95 else f"{area:.1f}" if area >= 9.995 else f"{area:.2f}"
