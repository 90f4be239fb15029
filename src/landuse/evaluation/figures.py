"""The figures of a run, drawn from plain data into PNG files."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landuse.evaluation.metrics import ClassReport, ReliabilityBin
from landuse.page.drawing import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    ORANGE_TEXT,
    PURPLE,
    SKY,
    WIDTH,
    drawing,
    percent_axis,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from landuse.evaluation.robustness import Robustness

MAX_MISTAKES = 12
MAX_NUMBERS = 800  # printed in a confusion matrix; more would be slow, large and unread


def curves(history: Sequence[Mapping[str, float]], path: Path, best_epoch: int | None = None) -> None:
    """Draw losses, validation accuracy and learning rate by epoch; `best_epoch` is marked.

    Args:
        history: one mapping an epoch with `epoch` (counted from 0, shown from 1), `train/loss`, `val/loss`,
            `val/accuracy` (0..1) and `lr`; not empty.
        path: PNG file to write.
        best_epoch: value of `epoch` whose checkpoint was kept, where there is one.
    """
    if not history:
        raise ValueError("there is no epoch to draw: the history is empty")
    epochs = [entry["epoch"] + 1 for entry in history]
    panels = [
        ("Loss", {"train/loss": ("training", SKY, "--"), "val/loss": ("validation", BLUE, "-")}),
        ("Validation accuracy", {"val/accuracy": ("", BLUE, "-")}),
        ("Learning rate", {"lr": ("", GREEN, "-")}),
    ]
    with drawing(path, WIDTH, 5.4) as figure:
        all_axes = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.6])
        for axes, (title, lines) in zip(all_axes, panels, strict=True):
            axes.set_title(title)
            for key, (label, colour, dash) in lines.items():
                values = [entry[key] for entry in history]
                axes.plot(epochs, values, dash, color=colour, label=label, marker="o" if len(epochs) == 1 else None)
            if best_epoch is not None:
                axes.axvline(best_epoch + 1, color=ORANGE, linewidth=1, linestyle=":")
        all_axes[0].legend(loc="lower right", bbox_to_anchor=(1.02, 1), ncols=2, borderaxespad=0.2)
        percent_axis(all_axes[1].yaxis)
        all_axes[2].yaxis.set_major_formatter("{x:g}")
        all_axes[2].set_xlabel("epoch")
        all_axes[2].xaxis.get_major_locator().set_params(integer=True)
        _mark_best(all_axes[1], {entry["epoch"]: entry["val/accuracy"] for entry in history}, best_epoch)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Draw a (C, C) matrix of counts, true classes as rows: hits in blue, mistakes in orange.

    The colour is the share of the row, so that a rare class is as visible as a common one. The number is the count,
    where it fits; of more than `MAX_NUMBERS`, those with the largest shares are printed. Legible up to 45 classes.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    num_classes = len(classes)
    if counts.shape != (num_classes, num_classes):
        raise ValueError(f"{num_classes} classes need a square matrix of that size, got shape {counts.shape}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = min(0.6, max(3.4 / num_classes, min(0.28, 9.5 / num_classes)))  # inches
    text_size = min(9.0, 0.45 * cell * 72)  # points
    names = [shortened(name, 22) for name in classes]
    margin = 0.5 + 0.6 * text_size / 72 * max(map(len, names))  # 0.6: mean width of a letter in units of its size
    with drawing(path, cell * num_classes + margin, cell * num_classes + margin + 0.2) as figure:
        axes = figure.subplots()
        axes.imshow(_confusion_colours(shares), aspect="equal")
        axes.set(title="Confusion matrix: images", xlabel="predicted", ylabel="true")
        axes.set_xticks(range(num_classes), names, rotation=90, fontsize=text_size)
        axes.set_yticks(range(num_classes), names, fontsize=text_size)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        _draw_grid(axes, num_classes)
        largest = np.argsort(-shares, axis=None, kind="stable")[: min(MAX_NUMBERS, np.count_nonzero(counts))]
        for row, column in zip(*np.unravel_index(largest, counts.shape), strict=True):
            text = str(counts[row, column])
            if 0.64 * text_size / 72 * len(text) <= cell:
                # White has the better contrast on strong blue alone, never on orange.
                colour = "white" if row == column and shares[row, column] > 0.68 else INK
                number = axes.text(column, row, text, ha="center", va="center", fontsize=text_size, color=colour)
                number.set_in_layout(False)  # it lies inside the axes; measuring hundreds of texts takes seconds


def reliability(bins: Sequence[ReliabilityBin], ece: float, path: Path) -> None:
    """Draw accuracy by confidence with the gap to perfect calibration, and how many images have which confidence."""
    filled = [entry for entry in bins if entry["count"]]
    if not filled:
        raise ValueError("there is no image in any bin of the reliability diagram")
    centres = np.array([(entry["lower"] + entry["upper"]) / 2 for entry in filled])
    width = 0.92 * (bins[0]["upper"] - bins[0]["lower"])
    accuracy = np.array([entry["accuracy"] for entry in filled], dtype=np.float64)
    confidence = np.array([entry["confidence"] for entry in filled], dtype=np.float64)
    counts = np.array([entry["count"] for entry in filled])
    with drawing(path, WIDTH, 4.9) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
        top.set_title(f"Calibration: expected error {100 * ece:.1f} %")
        top.bar(centres, accuracy, width, color=SKY, label="accuracy")
        top.bar(
            centres, confidence - accuracy, width, bottom=accuracy, label="gap to confidence",
            facecolor=(*_rgb(ORANGE), 0.25), edgecolor=ORANGE, hatch="////", linewidth=1,
        )  # fmt: skip
        top.plot([0, 1], [0, 1], "--", color=INK, linewidth=1.2, label="perfect calibration")
        top.legend(loc="upper left")
        top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
        bottom.bar(centres, counts / counts.sum(), width, color=MUTED)
        bottom.set(xlabel="confidence", ylabel="images")
        for axis in (top.yaxis, bottom.yaxis, bottom.xaxis):
            percent_axis(axis)


def per_class(scores: Mapping[str, ClassReport], path: Path) -> None:
    """Draw F1 as bars with precision and recall as marks, the best class on top, and the support beside each."""
    if not scores:
        raise ValueError("there is no class to draw")
    ordered = sorted(scores.items(), key=lambda item: item[1]["f1"])
    rows = np.arange(len(ordered))
    with drawing(path, WIDTH, 1.1 + 0.23 * len(ordered)) as figure:
        axes = figure.subplots()
        axes.set_title("Scores by class", pad=24)
        bars = axes.barh(rows, [report["f1"] for _, report in ordered], color=SKY, height=0.72, label="F1")
        # The diamond is smaller than the disc below it, so that both are seen where they coincide.
        (precision,) = axes.plot([report["precision"] for _, report in ordered], rows, "o", color=BLUE, markersize=7)
        (recall,) = axes.plot([report["recall"] for _, report in ordered], rows, "D", color=ORANGE, markersize=4)
        for marks, label, edge in ((precision, "precision", "white"), (recall, "recall", ORANGE)):
            marks.set(label=label, markeredgecolor=edge, clip_on=False, zorder=3)
        axes.set_yticks(rows, [shortened(name, 22) for name, _ in ordered])
        axes.set(xlim=(0, 1), ylim=(-0.6, len(ordered) - 0.4))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        percent_axis(axes.xaxis)
        axes.legend(
            handles=[bars, precision, recall],
            loc="lower left",
            bbox_to_anchor=(-0.02, 1),
            ncols=3,
            borderaxespad=0.2,
            columnspacing=1.2,
        )
        for row, (_, report) in enumerate(ordered):
            axes.text(1.04, row, str(report["support"]), va="center", fontsize=8, color=MUTED)
        axes.text(1.04, len(ordered) - 0.3, "n", va="bottom", fontsize=8, color=MUTED)


def robustness(result: "Robustness", path: Path) -> None:
    """Draw accuracy by severity, from 0 (the images as they are) on, for each corruption and as their mean."""
    severities = [0, *result["severities"]]
    styles = [(colour, dash) for dash in ("-", "--") for colour in (BLUE, ORANGE, GREEN, SKY, PURPLE)]
    with drawing(path, WIDTH, 3.6) as figure:
        axes = figure.subplots()
        axes.set_title("Accuracy on corrupted images")
        for (name, values), (colour, dash) in zip(result["accuracy"].items(), cycle(styles)):
            axes.plot(severities, [result["clean"], *values], dash, color=colour, marker="o", markersize=3, label=name)
        axes.plot(severities, [result["clean"], *result["mean"]], color=INK, linewidth=3, label="mean")
        axes.set(xlabel="severity", ylim=(0, 1.02))
        axes.set_xticks(severities)
        percent_axis(axes.yaxis)
        figure.legend(loc="outside right center")


def mistakes(
    images: NDArray[np.uint8], true: Sequence[str], predicted: Sequence[str], confidence: Sequence[float], path: Path
) -> None:
    """Draw a gallery of wrongly classified images in the order given, `MAX_MISTAKES` of them at most.

    Args:
        images: uint8, shape (M, H, W, 3); M = 0 gives a figure that says so.
        true: names of the M true classes.
        predicted: names of the M predicted classes.
        confidence: probability of the predicted class, M of them.
        path: PNG file to write.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 of shape (M, H, W, 3), got {images.dtype} of shape {images.shape}")
    if not len(images) == len(true) == len(predicted) == len(confidence):
        raise ValueError(f"{len(images)} images need as many true classes, predicted classes and confidences")
    shown = min(len(images), MAX_MISTAKES)
    if shown == 0:
        with drawing(path, WIDTH, 0.6) as figure:
            figure.text(0.5, 0.5, "Every image was classified correctly.", ha="center", va="center", color=MUTED)
        return
    num_rows = -(-shown // 3)
    # Photographs compress badly: a narrow figure with small text, shown enlarged, keeps the file small.
    with drawing(path, 3.0, 1.18 * num_rows) as figure:
        all_axes = figure.subplots(num_rows, 3, squeeze=False).ravel()
        for axes in all_axes:
            axes.axis("off")
        for axes, image, is_class, taken_for, probability in zip(
            all_axes, images[:shown], true, predicted, confidence, strict=False
        ):
            axes.imshow(image, interpolation="antialiased")
            title = f"{shortened(is_class, 20)} →\n{shortened(taken_for, 17)} {probability:.2f}"
            axes.set_title(title, fontsize=5.4, fontweight="normal", loc="center", pad=2.5, linespacing=1.15)


def _mark_best(axes: "Axes", accuracy: Mapping[float, float], best_epoch: int | None) -> None:
    """Mark the best epoch's point; its numbers go into the title's row, where no curve can cross them."""
    if best_epoch is None or best_epoch not in accuracy:
        return
    value = accuracy[best_epoch]
    axes.plot([best_epoch + 1], [value], "o", color=ORANGE, markersize=6, markeredgecolor="white", zorder=3)
    best = f"best: {100 * value:.1f} % in epoch {best_epoch + 1}"
    axes.set_title(best, loc="right", color=ORANGE_TEXT, fontsize=9, fontweight="normal")


def _confusion_colours(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours, shape (C, C, 3): white to blue on the diagonal, white to orange off it.

    The square root lifts small shares: one mistake in twenty must not look like none.
    """
    strength = np.sqrt(shares)[..., None]
    on_diagonal = np.eye(len(shares), dtype=np.bool_)[..., None]
    full: NDArray[np.float64] = np.where(on_diagonal, _rgb(BLUE), _rgb(ORANGE))
    return 1 - strength * (1 - full)


def _draw_grid(axes: "Axes", num_classes: int) -> None:
    edges = np.arange(num_classes + 1) - 0.5
    axes.hlines(edges, edges[0], edges[-1], color=GRID, linewidth=0.6)
    axes.vlines(edges, edges[0], edges[-1], color=GRID, linewidth=0.6)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
