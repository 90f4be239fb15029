"""Drawing into PNG files, in one style.

Colours told apart with any form of colour blindness (Okabe and Ito, "Color universal design", 2008), text that stays
legible at the width of a phone, and files below `MAX_BYTES`. The same data gives the same bytes: matplotlib's defaults
are restored first, whatever the user's matplotlibrc says, and no metadata is written.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse.files import replacing

if TYPE_CHECKING:  # matplotlib takes half a second to import; only those who draw pay for it
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7"
ORANGE_TEXT = "#a84300"  # the same hue, dark enough to read on white
INK, MUTED, GRID = "#1b2733", "#5b6875", "#dfe4e8"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x"
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
}
DPI = 200  # one inch is shown as 100 CSS pixels, so that screens of double density stay sharp
WIDTH = 4.8  # inches; squeezed to a phone's 360 CSS pixels, 9 points of text are still 9 pixels
MAX_BYTES = 200_000


@contextmanager
def drawing(path: Path, width: float, height: float) -> "Iterator[Figure]":
    """Yield an empty figure of the given size in inches and write it to `path` at the end.

    The figure never meets pyplot, so it needs no display and leaves no global state behind.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        yield figure
        content = _png(figure)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _png(figure: "Figure") -> bytes:
    """Render to a PNG with a palette (a third of the size of full colour), with fewer colours while it is too large."""
    from PIL import Image

    rendered = io.BytesIO()
    figure.savefig(rendered, format="png")
    pixels = Image.open(rendered).convert("RGB")
    content = b""
    for num_colours in (256, 128, 64, 32, 16):
        buffer = io.BytesIO()
        palette = pixels.quantize(num_colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(buffer, "PNG", optimize=True)
        content = buffer.getvalue()
        if len(content) < MAX_BYTES:
            break
    return content


def percent_axis(axis: Any) -> None:
    """Write the shares of an axis as percentages."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def shortened(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
