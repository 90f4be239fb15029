"""The style for QGIS, as the XML that it reads."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from landuse.mapping.colours import UNCLASSIFIED
from landuse.mapping.style import write_style
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
