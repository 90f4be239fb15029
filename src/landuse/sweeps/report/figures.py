"""The figures of a sweep that have nothing to do with its keys' values, drawn from its records into PNG files.

Each raises `NothingToDraw` where the records have too little for it.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import accumulate, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse.page.drawing import BLUE, GREEN, INK, MUTED, WIDTH, drawing
from landuse.page.wording import UNITS
from landuse.sweeps.objective import Objective
from landuse.sweeps.records import SweepRecord, TrialRecord
from landuse.sweeps.report.axes import (
    BEST,
    MANY_TRIALS,
    MARKS,
    best_proxy,
    elided_key,
    handles_of,
    legend_above,
    metric_axis,
    say,
    state_marks,
    whole_numbers,
)
from landuse.sweeps.report.reading import (
    NothingToDraw,
    finite_curve,
    monitored,
    reached,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 8.0  # inches, of a chart that a phone scrolls
MAX_WORKERS = 40  # rows of the timeline
MAX_PAIRS = 6  # of objectives
MAX_LABELS = 12  # numbers of trials beside the points of a Pareto front


def history(record: SweepRecord, path: Path) -> None:
    """Draw each objective by trial with the best so far; trials without a value are marked below."""
    if not record.trials:
        raise NothingToDraw("No trial has been started.")
    count = len(record.objectives)
    without = [trial for trial in record.trials if reached(trial, 0, record.objectives[0]) is None]
    with drawing(path, WIDTH, 1.0 + 2.3 * count + (0.4 if without else 0)) as figure:
        heights = [*[6] * count, *([1] if without else [])]
        all_axes = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        all_axes[0].set_title("Value by trial")
        for index, (axes, objective) in enumerate(zip(all_axes, record.objectives, strict=False)):
            _history_panel(axes, record, index, objective)
        if without:
            _without_value(all_axes[-1], without)
        last = max(trial.number for trial in record.trials)
        all_axes[-1].set(xlabel="trial", xlim=(-0.5 - 0.02 * last, last + 0.5 + 0.02 * last))
        whole_numbers(all_axes[-1].xaxis)
        legend_above(all_axes[0], [handle for axes in all_axes for handle in handles_of(axes)])


def _without_value(axes: "Axes", trials: list[TrialRecord]) -> None:
    for state in MARKS:
        numbers = [float(trial.number) for trial in trials if trial.state == state]
        if numbers:
            state_marks(axes, state, numbers, [0.0] * len(numbers), label=state)
    axes.set_yticks([0], ["no value"])
    axes.set_ylim(-1, 1)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _history_panel(axes: "Axes", record: SweepRecord, index: int, objective: Objective) -> None:
    values = {trial.number: reached(trial, index, objective) for trial in record.trials}
    known = {number: value for number, value in values.items() if value is not None}
    metric_axis(axes.yaxis, objective.name, list(known.values()))
    completed = [trial for trial in record.trials if trial.values]
    if completed:
        better = max if objective.direction == "maximize" else min
        best = list(accumulate((trial.values[index] for trial in completed), better))
        numbers = [trial.number for trial in completed]
        # The line goes on to the last trial, for the best holds until then.
        axes.step(
            [*numbers, record.trials[-1].number], [*best, best[-1]], where="post", color=GREEN, label="best so far"
        )
    for state in MARKS:
        points = {t.number: known[t.number] for t in record.trials if t.state == state and t.number in known}
        if points:
            state_marks(axes, state, list(points), list(points.values()), label=state)
    if not known:
        say(axes, "no trial has a value")


def importance(shares: Mapping[str, float], path: Path) -> None:
    """Draw the importance of keys as bars, the largest on top.

    Args:
        shares: key -> share of the importance of all keys, the largest first; not empty.
        path: PNG file to write.
    """
    with drawing(path, WIDTH, 1.0 + 0.28 * len(shares)) as figure:
        axes = figure.subplots()
        axes.set_title("Importance of the keys")
        rows = range(len(shares) - 1, -1, -1)
        axes.barh(rows, list(shares.values()), color=BLUE, height=0.66)
        for row, share in zip(rows, shares.values(), strict=True):
            axes.text(share + 0.01, row, f"{100 * share:.0f} %", va="center", fontsize=8, color=MUTED)
        axes.set_yticks(rows, [elided_key(key, 26) for key in shares])
        axes.set(xlim=(0, 1.12 * max(shares.values())), ylim=(-0.6, len(shares) - 0.4), xticks=[])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)


def curves(record: SweepRecord, path: Path) -> None:
    """Draw the monitored metric by epoch for each trial; where a line ends, the mark says how the trial did."""
    lines = [(trial, finite_curve(trial)) for trial in record.trials]
    lines = [(trial, curve) for trial, curve in lines if curve]
    if not lines:
        raise NothingToDraw("No trial has finished an epoch.")
    objective = monitored(record)
    best = {trial.number for trial in record.best()}
    is_crowded = len(lines) > MANY_TRIALS
    with drawing(path, WIDTH, 3.7) as figure:
        axes = figure.subplots()
        axes.set_title("Curves of the trials")
        values = [value for _, curve in lines for value in curve.values()]
        metric_axis(axes.yaxis, objective.name if objective else "monitored metric", values)
        for trial, curve in lines:
            is_best, mark = trial.number in best, MARKS[trial.state]
            style: dict[str, Any] = {"linewidth": 0.6 if is_crowded else 1.0, "alpha": 0.35 if is_crowded else 0.6}
            if is_best:
                style = {"linewidth": 2.2 if len(best) == 1 else 1.3, "zorder": 4}
            axes.plot(list(curve), list(curve.values()), color=GREEN if is_best else mark.colour, **style)
        for state in MARKS:
            ends = [list(curve.items())[-1] for trial, curve in lines if trial.state == state]
            if ends:
                state_marks(axes, state, [epoch for epoch, _ in ends], [value for _, value in ends], label=state)
        for trial, curve in lines:
            if trial.number in best:
                epoch, value = list(curve.items())[-1]
                axes.plot([epoch], [value], **BEST)
        axes.set_xlabel("epoch")
        whole_numbers(axes.xaxis)
        legend_above(axes, [*handles_of(axes), *([best_proxy()] if best else [])])


def timeline(record: SweepRecord, path: Path) -> None:
    """Draw when each trial ran, a row a worker; one that has no end yet lasts until the last time on record."""
    started = sorted((trial for trial in record.trials if trial.started), key=lambda t: (t.started, t.number))
    if not started:
        raise NothingToDraw("No trial has a start on record.")
    times = [time for trial in started for time in (trial.started, trial.ended) if time]
    first, last = min(times), max(times)
    seconds = max((last - first).total_seconds(), 1e-3)
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= 2 * size or size == 1)
    workers = list(dict.fromkeys(trial.worker for trial in started))
    shown = workers[-MAX_WORKERS:]
    with drawing(path, WIDE, 1.1 + 0.34 * len(shown)) as figure:
        axes = figure.subplots()
        title = "Timeline" if len(shown) == len(workers) else f"Timeline of the last {MAX_WORKERS} workers"
        axes.set_title(title)
        for trial in started:
            if trial.worker in shown:
                row = len(shown) - 1 - shown.index(trial.worker)
                _timeline_bar(axes, trial, row, first, last, size, seconds)
        axes.set_yticks(range(len(shown) - 1, -1, -1), _process_names(shown))
        axes.set(ylim=(-0.6, len(shown) - 0.4), xlim=(0, 1.01 * seconds / size))
        axes.set_xlabel(f"time since the start ({unit})")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        legend_above(axes, _state_patches(started), num_columns=6)


def _process_names(workers: list[str]) -> list[str]:
    """``machine:process`` as people are shown it: the machine only where there are several."""
    if len({worker.rpartition(":")[0] for worker in workers}) == 1:
        return [f"process {worker.rpartition(':')[2]}" if worker else "unnamed" for worker in workers]
    return [elided_key(worker or "unnamed", 22) for worker in workers]


def _timeline_bar(
    axes: "Axes", trial: TrialRecord, row: int, first: datetime, last: datetime, size: int, seconds: float
) -> None:
    assert trial.started is not None
    mark = MARKS[trial.state]
    left = (trial.started - first).total_seconds()
    # Clocks can be set back while a trial runs.
    length = max(((trial.ended or last) - trial.started).total_seconds(), 0.002 * seconds)
    share = length / seconds
    axes.barh(
        row, length / size, left=left / size, height=0.7, color=mark.colour, edgecolor="white",
        linewidth=0.8 if share > 0.01 else 0.2, hatch=mark.hatch,
    )  # fmt: skip
    text = str(trial.number)
    if share > 0.012 * (len(text) + 1):  # it fits
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        centre = (left + length / 2) / size
        number = axes.text(centre, row, text, ha="center", va="center", fontsize=6.5, color=INK, bbox=box)
        number.set_in_layout(False)  # it lies inside the axes; measuring hundreds of texts takes seconds


def _state_patches(trials: list[TrialRecord]) -> list[Any]:
    from matplotlib.patches import Patch

    found = {trial.state for trial in trials}
    return [
        Patch(facecolor=mark.colour, edgecolor="white", hatch=mark.hatch, label=state)
        for state, mark in MARKS.items()
        if state in found
    ]


def pareto(record: SweepRecord, path: Path) -> None:
    """Draw each pair of objectives against each other, with the Pareto front marked."""
    completed = [trial for trial in record.trials if trial.values]
    if len(record.objectives) < 2:
        raise NothingToDraw("There is only one objective.")
    if not completed:
        raise NothingToDraw("No trial has completed.")
    pairs = list(combinations(range(len(record.objectives)), 2))[:MAX_PAIRS]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    front = record.best()
    with drawing(path, WIDTH if columns == 1 else 2.9 * columns, 0.4 + 3.2 * rows) as figure:
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, pair in zip(all_axes, pairs, strict=False):
            _pareto_panel(axes, record, completed, front, pair)
        for axes in all_axes[len(pairs) :]:
            axes.axis("off")
        all_axes[0].set_title("Pareto front")
        legend_above(all_axes[0], handles_of(all_axes[0]))


def _pareto_panel(
    axes: "Axes", record: SweepRecord, completed: list[TrialRecord], front: list[TrialRecord], pair: tuple[int, int]
) -> None:
    # The second objective of the pair goes along: what a model costs against how good it is.
    across, up = pair[1], pair[0]
    for axis, index in ((axes.xaxis, across), (axes.yaxis, up)):
        metric_axis(axis, record.objectives[index].name, [trial.values[index] for trial in completed])
    best = {trial.number for trial in front}
    rest = [trial for trial in completed if trial.number not in best]
    if rest:
        state_marks(
            axes, "complete", [t.values[across] for t in rest], [t.values[up] for t in rest], label="beaten by another"
        )
    ordered = sorted(front, key=lambda trial: trial.values[across])
    x, y = [t.values[across] for t in ordered], [t.values[up] for t in ordered]
    if len(record.objectives) == 2:  # of more, the front is a surface: a line through its shadow would mislead
        is_cost = record.objectives[across].direction == "minimize"
        axes.step(x, y, where="post" if is_cost else "pre", color=GREEN, linewidth=1.2)
    axes.plot(x, y, linestyle="none", label="front", **{**BEST, "zorder": 4})
    if len(ordered) <= MAX_LABELS:
        for trial, at_x, at_y in zip(ordered, x, y, strict=True):
            axes.annotate(str(trial.number), (at_x, at_y), (5, 5), textcoords="offset points", fontsize=7, color=MUTED)
    axes.margins(0.08)
