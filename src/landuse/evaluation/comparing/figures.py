"""Curves over each other, and classes beside each other."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from landuse.evaluation.comparing.reading import Compared
from landuse.page.drawing import BLUE, GREEN, GRID, MUTED, ORANGE, PURPLE, SKY, WIDTH, drawing, percent_axis, shortened

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY)
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "^", "v")
MOST_NAMED = 10  # runs in a legend
LONGEST_NAME = 24  # characters


def style(number: int) -> tuple[str, str]:
    """Colour and dashes of the run of this number; twenty are told apart."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def curves(compared: Sequence[Compared], path: Path) -> None:
    """Draw validation accuracy, validation loss and training loss by epoch, a line a run."""
    from matplotlib.ticker import MaxNLocator

    panels = {"val/accuracy": "Validation accuracy", "val/loss": "Validation loss", "train/loss": "Training loss"}
    with drawing(path, WIDTH, 6.6) as figure:
        all_axes = figure.subplots(3, 1, sharex=True)
        for axes, (key, title) in zip(all_axes, panels.items(), strict=True):
            axes.set_title(title)
            for number, one in enumerate(compared):
                epochs = [record["epoch"] + 1 for record in one.files.history]
                colour, dash = style(number)
                name = shortened(one.label, LONGEST_NAME) if number < MOST_NAMED else None
                values = [record[key] for record in one.files.history]
                marker = "o" if len(epochs) == 1 else None
                axes.plot(epochs, values, dash, color=colour, label=name, linewidth=1.4, marker=marker)
        percent_axis(all_axes[0].yaxis)
        all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        all_axes[-1].set_xlabel("epoch")
        figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=8)


def classes(compared: Sequence[Compared], path: Path, numbers: Sequence[int]) -> None:
    """Draw F1 of every class as a row, a mark a run, those with the largest differences on top.

    Args:
        compared: evaluated on the same classes, at most ``MOST_NAMED``.
        numbers: of the runs on the page, by which they have their colours.
    """
    rows = class_scores(compared)
    with drawing(path, WIDTH, 1.3 + 0.2 * len(rows)) as figure:
        axes = figure.subplots()
        for row, (_, scores) in enumerate(reversed(rows)):
            axes.plot([min(scores), max(scores)], [row, row], color=GRID, linewidth=3, solid_capstyle="round", zorder=1)
        for column, (one, number, marker) in enumerate(zip(compared, numbers, cycle(MARKERS), strict=False)):
            scores = [found[column] for _, found in reversed(rows)]
            name = shortened(one.label, LONGEST_NAME)
            axes.scatter(scores, range(len(rows)), s=22, color=style(number)[0], marker=marker, label=name, zorder=2)
        axes.set_yticks(range(len(rows)), [shortened(name, LONGEST_NAME) for name, _ in reversed(rows)], fontsize=8)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlabel("F1", color=MUTED)
        percent_axis(axes.xaxis)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=8)


def class_scores(compared: Sequence[Compared]) -> list[tuple[str, list[float]]]:
    """Classes with the F1 of each run, the largest difference first."""
    first = compared[0].evaluation
    assert first is not None
    rows = [(name, [one.evaluation["per_class"][name]["f1"] for one in compared if one.evaluation])
            for name in first["classes"]]  # fmt: skip
    return sorted(rows, key=lambda row: (min(row[1]) - max(row[1]), row[0]))
