"""The figures of the swept keys' values: parallel coordinates, and a slice for each key."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse.page.drawing import INK, ORANGE, WIDTH, drawing, shortened
from landuse.sweeps.objective import Objective
from landuse.sweeps.records import SweepRecord, TrialRecord
from landuse.sweeps.report.axes import (
    BEST,
    MARKS,
    best_proxy,
    elided_key,
    key_axis,
    metric_axis,
    say,
    scale_of,
    scale_of_key,
    spread,
    state_marks,
)
from landuse.sweeps.report.reading import NothingToDraw, metric_name, metric_text, reached

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_KEYS = 12  # in a figure
MANY_LINES, MAX_LINES = 30, 60  # of parallel coordinates; more would hide each other
NOT_SET = -0.14  # where lines pass an axis whose key the trial lacks, as a share of the axis
SHADES = 8
PALEST, DARKEST = 0.25, 0.95  # of the colours of lines; the palest of all would vanish on white


@dataclass(frozen=True)
class Coordinate:
    """One axis of parallel coordinates."""

    label: str
    heights: list[float | None]  # one a trial, as a share of the axis; None where the trial lacks the key
    ticks: list[tuple[float, str]]


def parallel(record: SweepRecord, keys: Sequence[str], path: Path) -> None:
    """Draw completed trials as lines through their values: an axis for each key, then one for each objective.

    Of more than `MAX_LINES` trials, that many are drawn, from the best to the worst in even steps.

    Args:
        record: of the sweep.
        keys: in the order of their axes; those after the first `MAX_KEYS` are left out.
        path: PNG file to write.
    """
    completed = [trial for trial in record.ranked() if trial.values]
    shown = [key for key in keys if any(key in trial.params for trial in completed)][:MAX_KEYS]
    if not shown:
        raise NothingToDraw("No trial has completed.")
    coordinates = [_of_key(record, key, completed) for key in shown]
    coordinates += [_of_objective(index, o.name, completed) for index, o in enumerate(record.objectives)]
    with drawing(path, max(WIDTH, 0.4 + 1.1 * len(coordinates)), 4.0) as figure:
        axes = figure.subplots()
        axes.set_title("Completed trials through the keys", pad=12)
        _lines(axes, coordinates, len(completed))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
        for place, coordinate in enumerate(coordinates):
            axes.plot([place, place], [0, 1], color=INK, linewidth=1, zorder=3)
            for height, text in coordinate.ticks:
                axes.plot([place], [height], "_", color=INK, markersize=5, zorder=3)
                label = shortened(text, 14)
                axes.text(place + 0.06, height, label, fontsize=7, va="center", color=INK, bbox=box, zorder=4)
        axes.set_xticks(range(len(coordinates)), [coordinate.label for coordinate in coordinates], fontsize=8)
        lowest = min(height for coordinate in coordinates for height, _ in coordinate.ticks)
        axes.set(yticks=[], xlim=(-0.15, len(coordinates) - 0.45), ylim=(min(0, lowest) - 0.06, 1.06))
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)


def _lines(axes: "Axes", coordinates: Sequence[Coordinate], num_trials: int) -> None:
    from matplotlib import colormaps

    drawn = range(0, num_trials, -(-num_trials // MAX_LINES))  # of the ranks
    for rank in reversed(drawn):  # the best are drawn last, on top
        heights = [coordinate.heights[rank] for coordinate in coordinates]
        good = 1 - rank / max(1, num_trials - 1)
        colour = colormaps["Blues"](PALEST + (DARKEST - PALEST) * round(SHADES * good) / SHADES)
        # Smoothed edges of many lines would make the file larger than its palette can save.
        style: dict[str, Any] = {"color": colour, "linewidth": 1.0, "antialiased": len(drawn) <= MANY_LINES}
        if rank == 0:
            style = {"color": ORANGE, "linewidth": 2.4}
        axes.plot([NOT_SET if height is None else height for height in heights], **style)


def _of_key(record: SweepRecord, key: str, trials: Sequence[TrialRecord]) -> Coordinate:
    scale = scale_of_key(record, key)
    heights = [scale.share(trial.params[key]) if key in trial.params else None for trial in trials]
    not_set = [(NOT_SET, "not set")] if None in heights else []
    return Coordinate(_two_lines(key), heights, [*scale.ticks(), *not_set])


def _of_objective(index: int, metric: str, trials: Sequence[TrialRecord]) -> Coordinate:
    scale = scale_of(trial.values[index] for trial in trials)
    ends = sorted({min(scale.numbers), max(scale.numbers)})
    ticks = [(scale.share(value), metric_text(metric, value)) for value in ends]
    return Coordinate(metric_name(metric).replace(" ", "\n"), [scale.share(t.values[index]) for t in trials], ticks)


def _two_lines(key: str) -> str:
    """A dotted key with its group above its name."""
    group, dot, name = key.rpartition(".")
    return f"{elided_key(group + dot, 16)}\n{elided_key(name, 16)}" if dot else elided_key(name, 16)


def slices(record: SweepRecord, keys: Sequence[str], path: Path) -> None:
    """Draw every objective against each key; trials that ended early by the best value that they had reached.

    Args:
        record: of the sweep.
        keys: in the order of the panels; those after the first `MAX_KEYS` are left out.
        path: PNG file to write.
    """
    goals = list(enumerate(record.objectives))
    with_value = [trial for trial in record.trials if any(reached(trial, i, o) is not None for i, o in goals)]
    shown = [key for key in keys if any(key in trial.params for trial in with_value)][:MAX_KEYS]
    if not shown:
        raise NothingToDraw("No trial has a value yet.")
    panels = [(key, index, objective) for key in shown for index, objective in goals]
    columns = len(record.objectives) if len(record.objectives) > 1 else min(3, len(shown))
    rows = -(-len(panels) // columns)
    with drawing(path, WIDTH if columns == 1 else max(6.4, 2.75 * columns), 0.5 + 2.3 * rows) as figure:
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (key, index, objective) in zip(all_axes, panels, strict=False):
            _slice(axes, record, key, index, objective)
        for axes in all_axes[len(panels) :]:
            axes.axis("off")
        _legend(figure, record, with_value)


def _slice(axes: "Axes", record: SweepRecord, key: str, index: int, objective: Objective) -> None:
    points = [
        (trial, value)
        for trial in record.trials
        if key in trial.params and (value := reached(trial, index, objective)) is not None
    ]
    metric_axis(axes.yaxis, objective.name, [value for _, value in points])
    if not points:
        axes.set(xticks=[], xlabel=elided_key(key, 32))
        say(axes, "no trial has a value")
        return
    scale = scale_of_key(record, key)

    def across(trial: TrialRecord) -> float:
        return scale.place(trial.params[key]) + (spread(trial, len(points)) if scale.categories else 0.0)

    for state in MARKS:
        of_state = [(across(trial), value) for trial, value in points if trial.state == state]
        if of_state:
            state_marks(axes, state, [x for x, _ in of_state], [y for _, y in of_state])
    best = {trial.number for trial in record.best()}
    for trial, value in points:
        if trial.number in best:
            axes.plot([across(trial)], [value], **BEST)
    key_axis(axes.xaxis, scale, key)


def _legend(figure: "Figure", record: SweepRecord, trials: Sequence[TrialRecord]) -> None:
    """One for all panels, above them; the states as the first panel, which need not have them all, would draw them."""
    from matplotlib.lines import Line2D

    found = {trial.state for trial in trials}
    handles = [
        Line2D([], [], linestyle="", marker=mark.marker, color=mark.colour, markersize=5.5, label=state)
        for state, mark in MARKS.items()
        if state in found
    ]
    if record.best():
        handles.append(best_proxy())
    figure.legend(handles=handles, loc="outside upper left", ncols=7, columnspacing=1.2, handletextpad=0.5)
