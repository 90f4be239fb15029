"""Styles by which QGIS shows a map with the names of its classes; it loads them by itself from beside the files."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from landuse.files import replacing
from landuse.mapping.colours import UNCLASSIFIED


def write_style(path: Path, facts: dict[str, Any]) -> Path:
    """Write ``classes.qml``, to lie beside ``classes.tif``: a colour and a label for each value.

    Args:
        path: of the file to write.
        facts: of the map, as ``map.json`` has them.
    """
    document = _document()
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(document, "pipe"),
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""},
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for value, colour, name in _entries(facts):
        ElementTree.SubElement(palette, "paletteEntry", value=str(value), color=colour, alpha="255", label=name)
    ElementTree.SubElement(document, "blendMode").text = "0"
    return _write(path, document)


def write_polygon_style(path: Path, facts: dict[str, Any]) -> Path:
    """Write ``polygons.qml``, to lie beside the polygons: the same colours, through which what is below can be seen.

    Args:
        path: of the file to write.
        facts: of the map, as ``map.json`` has them.
    """
    document = _document()
    renderer = ElementTree.SubElement(document, "renderer-v2", type="categorizedSymbol", attr="value")
    categories, symbols = (ElementTree.SubElement(renderer, name) for name in ("categories", "symbols"))
    for number, (value, colour, name) in enumerate(_entries(facts)):
        ElementTree.SubElement(
            categories, "category", value=str(value), type="long", label=name, symbol=str(number), render="true"
        )
        symbol = ElementTree.SubElement(symbols, "symbol", name=str(number), type="fill", alpha="0.6")
        layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0"})
        red, green, blue = bytes.fromhex(colour.removeprefix("#"))
        for key, setting in (
            ("color", f"{red},{green},{blue},255"), ("outline_color", "40,40,40,255"), ("outline_width", "0.1"),
        ):  # fmt: skip
            ElementTree.SubElement(layer, "prop", k=key, v=setting)
    return _write(path, document)


def _document() -> ElementTree.Element:
    return ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")


def _entries(facts: dict[str, Any]) -> list[tuple[int, str, str]]:
    """Value, colour and legible name of each class and of the unclassified; XML can hold no control characters."""
    entries = [(entry["value"], entry["colour"], str(entry["name"])) for entry in facts["classes"]]
    entries.append((facts["unclassified"], UNCLASSIFIED, "unclassified"))
    return [
        (value, colour, "".join(c if c.isprintable() else "\ufffd" for c in name)) for value, colour, name in entries
    ]


def _write(path: Path, document: ElementTree.Element) -> Path:
    ElementTree.indent(document)
    text = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ElementTree.tostring(document, "unicode")
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n", errors="replace")
    return path
