"""The style for QGIS, as the XML that it reads."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from landuse.mapping.colours import UNCLASSIFIED
from landuse.mapping.style import write_polygon_style, write_style
from tests.mapping.maps import facts_of


def test_each_value_has_its_colour_and_its_name(tmp_path: Path) -> None:
    hostile = "<b>\"&' é\x07"
    facts = facts_of(np.zeros((2, 2), np.uint8), names=("forest", hostile, "river"))
    root = ElementTree.parse(write_style(tmp_path / "classes.qml", facts)).getroot()
    renderer = root.find("pipe/rasterrenderer")
    assert root.tag == "qgis" and renderer is not None
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = [tuple(entry.get(key) for key in ("value", "color", "label")) for entry in renderer.iter("paletteEntry")]
    assert entries == [
        ("0", "#1b7a3d", "forest"),
        ("1", "#3d8fe0", "<b>\"&' é\ufffd"),
        ("2", "#c0392b", "river"),
        ("254", UNCLASSIFIED, "unclassified"),
    ]


def test_polygons_have_the_same_colours(tmp_path: Path) -> None:
    facts = facts_of(np.zeros((2, 2), np.uint8), names=("forest", "river", "road"))
    root = ElementTree.parse(write_polygon_style(tmp_path / "polygons.qml", facts)).getroot()
    renderer = root.find("renderer-v2")
    assert renderer is not None and renderer.get("attr") == "value"
    colours = {
        symbol.get("name"): symbol.find("layer/prop[@k='color']").get("v")  # type: ignore[union-attr]
        for symbol in renderer.iter("symbol")
    }
    found = {
        entry.get("value"): (entry.get("label"), colours[entry.get("symbol")]) for entry in renderer.iter("category")
    }
    assert found["1"] == ("river", "61,143,224,255") and found["254"] == ("unclassified", "180,184,188,255")
    assert len(found) == 4
