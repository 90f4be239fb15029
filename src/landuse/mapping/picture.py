"""The map as a picture to put into a document: the scene, its classes over it, a legend and a scale."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.files import replacing
from landuse.mapping.reading import file_name, hectares, legend, ranked
from landuse.page.drawing import DPI, INK, MUTED, STYLE, shortened
from landuse.page.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPACITY = 0.68  # of the classes over the scene, which is grey there, so that their colours stay those of the legend
LONG_SIDE = 6.0  # inches, of a panel
SIDE_BY_SIDE = 1.7  # width by height of a scene, up to which the two panels stand beside each other
MARGIN, GAP, TITLE, CAPTION, FOOT = 0.15, 0.15, 0.42, 0.22, 0.5  # inches
ROW, LEGEND_WIDTH, NARROWEST = 0.21, 3.0, 3.2  # inches
LEAST_HEIGHT = 2.0  # inches, that the legend may fill
LONGEST_NAME = 22
ROUND = (1, 2, 5)


class _Entry(NamedTuple):
    """A line of the legend."""

    colour: str
    name: str
    area: str
    share: str


class _Layout(NamedTuple):
    """Sizes in inches, places from the upper left corner."""

    width: float
    height: float
    panel: tuple[float, float]
    panels: tuple[tuple[float, float], tuple[float, float]]
    legend_left: float
    rows: int


def write_picture(scene_preview: NDArray[np.uint8], classes: NDArray[Any], facts: dict[str, Any], path: Path) -> Path:
    """Write ``map.png``.

    Args:
        scene_preview: (h, w, 3) the scene, of at most about 2,048 pixels along a side.
        classes: (h, w) values of the classes.
        facts: of the map, as ``map.json`` has them.
        path: of the PNG file to write.
    """
    import matplotlib
    from matplotlib.figure import Figure

    entries = _entries(classes, facts)
    layout = _layout(classes.shape[1] / classes.shape[0], len(entries))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(layout.width, layout.height), dpi=DPI)
        name = file_name(facts)
        _write(figure, layout, MARGIN, MARGIN + 0.16, shortened(name, int(layout.width * 9)), size=12, weight="bold")
        pictures = _panels(scene_preview, classes, facts)
        for (left, top), caption, picture in zip(layout.panels, ("Scene", "Land use"), pictures, strict=True):
            _write(figure, layout, left, top - CAPTION / 2, caption, colour=MUTED)
            _show(figure, layout, left, top, picture)
        _legend(figure, layout, entries)
        _foot(figure, layout, facts)
        rendered = io.BytesIO()
        figure.savefig(rendered, format="png", metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(rendered.getvalue())
    return path


def _entries(classes: NDArray[Any], facts: dict[str, Any]) -> list[_Entry]:
    """What occurs, largest first; what is unclassified and where there are no data after that."""
    colours = {entry["value"]: entry["colour"] for entry in legend(facts)}
    entries = [
        _Entry(
            colours[entry["value"]],
            shortened(str(entry["class"]), LONGEST_NAME),
            "" if entry["counted_ha"] is None else f"{hectares(entry['counted_ha'])} ha",
            percent(entry["counted_share"]),
        )
        for entry in ranked(facts)
        if entry["pixels"]
    ]
    if (classes == facts["nodata"]).any():
        entries.append(_Entry("white", "no data", "", ""))
    return entries


def _layout(aspect: float, num_entries: int) -> _Layout:
    """Two panels beside each other, those of a wide scene below each other, and the legend to their right."""
    panel = (LONG_SIDE, LONG_SIDE / aspect) if aspect >= 1 else (LONG_SIDE * aspect, LONG_SIDE)
    top = TITLE + CAPTION
    if aspect <= SIDE_BY_SIDE:
        panel = panel[0] * 0.75, panel[1] * 0.75
        distance = max(panel[0], 0.8) + GAP
        panels = (MARGIN, top), (MARGIN + distance, top)
        bottom, right = top + panel[1], MARGIN + distance + max(panel[0], 0.8)
    else:
        second = top + panel[1] + CAPTION + GAP / 2
        panels = (MARGIN, top), (MARGIN, second)
        bottom, right = second + panel[1], MARGIN + panel[0]
    room = max(bottom - top, LEAST_HEIGHT)
    columns = 1 if num_entries * ROW <= 1.4 * room else 2
    rows = max(1, math.ceil(num_entries / columns))
    right = max(right, NARROWEST - LEGEND_WIDTH)
    return _Layout(
        width=right + 2 * GAP + columns * LEGEND_WIDTH + MARGIN,
        height=max(bottom, top + rows * ROW) + FOOT,
        panel=panel, panels=panels, legend_left=right + 2 * GAP, rows=rows,
    )  # fmt: skip


def _panels(
    scene: NDArray[np.uint8], classes: NDArray[Any], facts: dict[str, Any]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The scene, and its classes over a grey one; white where there are no data."""
    colours = np.full((facts["nodata"] + 1, 3), 255.0)
    for entry in legend(facts):
        colours[entry["value"]] = [*bytes.fromhex(entry["colour"][1:])]
    grey = scene @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    mixed = np.rint(OPACITY * colours[classes] + (1 - OPACITY) * grey[..., None]).astype(np.uint8)
    has_none = (classes == facts["nodata"])[..., None]
    return np.where(has_none, np.uint8(255), scene), np.where(has_none, np.uint8(255), mixed)


def _show(figure: "Figure", layout: _Layout, left: float, top: float, picture: NDArray[np.uint8]) -> None:
    width, height = layout.panel
    axes = figure.add_axes(
        (left / layout.width, 1 - (top + height) / layout.height, width / layout.width, height / layout.height)
    )
    is_small = picture.shape[1] < width * DPI
    axes.imshow(picture, interpolation="nearest" if is_small else "antialiased", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=MUTED, linewidth=0.6)


def _write(
    figure: "Figure", layout: _Layout, left: float, middle: float, text: str,
    size: float = 9, colour: str = INK, align: str = "left", weight: str = "normal",
) -> None:  # fmt: skip
    figure.text(
        left / layout.width, 1 - middle / layout.height, text, fontsize=size, color=colour, fontweight=weight,
        ha=align, va="center",
    )  # fmt: skip


def _box(figure: "Figure", layout: _Layout, left: float, top: float, width: float, height: float, **look: Any) -> None:
    from matplotlib.patches import Rectangle

    figure.add_artist(
        Rectangle(
            (left / layout.width, 1 - (top + height) / layout.height), width / layout.width, height / layout.height,
            transform=figure.transFigure, **look,
        )
    )  # fmt: skip


def _legend(figure: "Figure", layout: _Layout, entries: list[_Entry]) -> None:
    for index, entry in enumerate(entries):
        column, row = divmod(index, layout.rows)
        left, top = layout.legend_left + column * LEGEND_WIDTH, TITLE + CAPTION + row * ROW
        _box(figure, layout, left, top + 0.02, 0.2, 0.15, facecolor=entry.colour, edgecolor=MUTED, linewidth=0.5)
        middle = top + 0.1
        _write(figure, layout, left + 0.28, middle, entry.name)
        right = left + LEGEND_WIDTH - 0.12
        _write(figure, layout, right, middle, entry.share, colour=MUTED, align="right")
        _write(figure, layout, right - 0.62, middle, entry.area, colour=MUTED, align="right")


def _foot(figure: "Figure", layout: _Layout, facts: dict[str, Any]) -> None:
    """A scale where the pixels' size is known, and what the numbers of the legend are."""
    scene = facts["scene"]
    middle = layout.height - FOOT / 2 + 0.05
    if scene["pixel_size_m"]:
        metres_per_inch = scene["pixel_size_m"][0] * scene["width"] / layout.panel[0]
        length = _round_length(max(layout.panel[0] / 3, 0.5) * metres_per_inch)
        _box(figure, layout, MARGIN, middle - 0.02, length / metres_per_inch, 0.04, facecolor=INK)
        text = f"{length / 1000:,g} km" if length >= 1000 else f"{length:,g} m"
        _write(figure, layout, MARGIN + length / metres_per_inch + 0.08, middle, text, size=8)
    _write(figure, layout, layout.width - MARGIN - 0.12, middle, "as counted from the map", size=8, colour=MUTED,
           align="right")  # fmt: skip


def _round_length(longest: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in ROUND if step * power <= longest)
