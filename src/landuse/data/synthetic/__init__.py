"""A generated stand-in for aerial photographs: 21 land-use classes, drawn the same on every machine."""

from landuse.data.synthetic.scenes import CLASSES, VERSION, draw_scene

__all__ = ["CLASSES", "VERSION", "draw_scene"]
