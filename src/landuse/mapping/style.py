"""The style by which QGIS shows the map of classes with their names; it loads it by itself from beside the raster."""

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
    document = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(document, "pipe"),
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""},
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    entries = [(entry["value"], entry["colour"], entry["name"]) for entry in facts["classes"]]
    for value, colour, name in [*entries, (facts["unclassified"], UNCLASSIFIED, "unclassified")]:
        label = "".join(c if c.isprintable() else "\ufffd" for c in str(name))  # XML can hold no control characters
        ElementTree.SubElement(palette, "paletteEntry", value=str(value), color=colour, alpha="255", label=label)
    ElementTree.SubElement(document, "blendMode").text = "0"
    ElementTree.indent(document)
    text = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ElementTree.tostring(document, "unicode")
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n", errors="replace")
    return path
