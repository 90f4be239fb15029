"""The figures of a dataset, as PNG files: balance of the classes, sizes, a sheet of each class, duplicates."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landuse.files import replacing
from landuse.page.drawing import BLUE, GRID, INK, MUTED, ORANGE, SKY, WIDTH, drawing, shortened

MAX_PAIRS = 12  # shown side by side
SHEET_IMAGES, SHEET_PX, GAP_PX = 10, 96, 4  # of one class; each scaled to this side
SHEET_COLOURS = 256  # a palette makes a sheet a third as large; this way of choosing it takes milliseconds


def classes(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Images of each class by split, as stacked bars; ``counts``: split -> class -> images."""
    names = sorted({name for split in counts.values() for name in split}, reverse=True)
    left = np.zeros(len(names))
    with drawing(path, WIDTH, 0.9 + 0.2 * len(names)) as figure:
        axes = figure.subplots()
        axes.set_title("Images by class", pad=22)
        for (split, of_class), colour in zip(counts.items(), (BLUE, SKY, ORANGE), strict=True):
            values = np.array([of_class.get(name, 0) for name in names])
            axes.barh(range(len(names)), values, left=left, color=colour, height=0.72, label=split)
            left += values
        axes.set_yticks(range(len(names)), [shortened(name, 22) for name in names])
        axes.set(ylim=(-0.6, len(names) - 0.4))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, borderaxespad=0)


def sizes(found: Sequence[Mapping[str, int]], path: Path) -> None:
    """Widths and heights of the files as discs whose area stands for the number of images.

    Args:
        found: mappings with ``width``, ``height`` (pixels) and ``images``.
    """
    widths, heights, images = (np.array([size[key] for size in found]) for key in ("width", "height", "images"))
    with drawing(path, WIDTH, 3.4) as figure:
        axes = figure.subplots()
        axes.set_title("Sizes of the files")
        area = 900 * images / images.max() + 12  # square points; the second term keeps a single image visible
        axes.scatter(widths, heights, area, color=BLUE, alpha=0.55, edgecolor=INK, linewidth=0.6)
        axes.set(xlabel="width (pixels)", ylabel="height (pixels)")
        axes.margins(0.15)


def sheet(images: NDArray[np.uint8], path: Path) -> None:
    """A contact sheet: up to ``SHEET_IMAGES`` images (N, H, W, 3) uint8 in two rows."""
    columns = SHEET_IMAGES // 2
    step = SHEET_PX + GAP_PX
    canvas = Image.new("RGB", (columns * step - GAP_PX, 2 * step - GAP_PX), "white")
    for number, image in enumerate(images[:SHEET_IMAGES]):
        row, column = divmod(number, columns)
        scaled = Image.fromarray(image).resize((SHEET_PX, SHEET_PX), Image.Resampling.BICUBIC)
        canvas.paste(scaled, (column * step, row * step))
    with replacing(path) as temporary:
        canvas.quantize(SHEET_COLOURS, Image.Quantize.FASTOCTREE).save(temporary, "PNG")


def duplicates(pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8], str]], path: Path) -> None:
    """Pairs of images (H, W, 3) uint8 side by side under a line of text, at most ``MAX_PAIRS``."""
    shown = pairs[:MAX_PAIRS]
    num_rows = -(-len(shown) // 2)
    with drawing(path, WIDTH, 1.35 * num_rows) as figure:
        for axes, pair in zip(figure.subplots(num_rows, 2, squeeze=False).ravel(), shown, strict=False):
            both = [np.asarray(Image.fromarray(image).resize((SHEET_PX, SHEET_PX))) for image in pair[:2]]
            axes.imshow(np.hstack([both[0], np.full((SHEET_PX, GAP_PX, 3), 255, np.uint8), both[1]]))
            axes.set_title(pair[2], fontsize=6, fontweight="normal", color=MUTED, loc="center", pad=3)
            axes.grid(visible=False)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(visible=True, color=GRID)
        for axes in figure.axes[len(shown) :]:
            axes.axis("off")
