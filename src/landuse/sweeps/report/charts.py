"""The figures on the page: each drawn into its PNG file, with the words beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from landuse.page.markup import Html, tag
from landuse.page.parts import figure, png
from landuse.page.wording import percent
from landuse.sweeps.records import SweepRecord
from landuse.sweeps.report import figures, keys
from landuse.sweeps.report.importance import importances, num_top
from landuse.sweeps.report.reading import NothingToDraw, drawn_keys, metric_name, metric_text, monitored


@dataclass(frozen=True)
class Chart:
    """A figure: how it is drawn, what it shows to those who cannot see it, how to read it."""

    draw: Callable[[Path], None]  # into this PNG file; raises NothingToDraw
    alt: str
    caption: str
    kind: Literal["chart", "wide chart"] = "chart"


def charts(record: SweepRecord, folder: Path) -> dict[str, Html]:
    """Draw ``<folder>/<name>.png`` for each figure; name -> the figure, or a sentence where it has too little."""
    try:
        shares, why_not = importances(record), ""
    except NothingToDraw as reason:
        shares, why_not = {}, str(reason)
    found = {**_of_trials(record), **_of_keys(record, [*shares, *(k for k in drawn_keys(record) if k not in shares)])}
    if len(record.objectives) > 1:
        found["pareto"] = _pareto(record)
    shown = {name: _shown(chart, folder / f"{name}.png") for name, chart in found.items()}
    shown["importance"] = _shown(_importance(record, shares, why_not), folder / "importance.png")
    return shown


def _shown(chart: Chart, path: Path) -> Html:
    try:
        chart.draw(path)
    except NothingToDraw as reason:
        path.unlink(missing_ok=True)  # of an earlier sweep in this folder
        return tag("p", str(reason), class_="muted")
    return figure(png(path), chart.alt, chart.caption, chart.kind)


def _of_trials(record: SweepRecord) -> dict[str, Chart]:
    best, objective, watched = record.best(), record.objectives[0], monitored(record)
    name = metric_name(objective.name)
    result = f"The best is {metric_text(objective.name, best[0].values[0])}, trial {best[0].number}." if best else ""
    history = Chart(
        partial(figures.history, record),
        f"Optimisation history: {name} of {len(record.trials)} trials in the order of their start. {result}".strip(),
        "Where the line is flat for long, more trials of this kind will hardly help. A trial that ended early stands at"
        " the best value that it had reached.",
    )
    curves = Chart(
        partial(figures.curves, record),
        f"Curves of {metric_name(watched.name) if watched else 'the monitored metric'} by epoch, a line for each trial."
        f" {record.count('pruned')} pruned trials end early.",
        "Pruned trials end early. If curves cross late, pruning as early as this may have stopped good trials.",
    )
    workers = len({trial.worker for trial in record.trials if trial.started})
    timeline = Chart(
        partial(figures.timeline, record),
        f"Timeline of the trials of {workers} {'worker' if workers == 1 else 'workers'}: when each began and ended.",
        "A bar for each trial, a row for each worker; gaps are time in which a worker did nothing.",
        "wide chart",
    )
    return {"history": history, "curves": curves, "timeline": timeline}


def _of_keys(record: SweepRecord, by_importance: list[str]) -> dict[str, Chart]:
    left_out = len(by_importance) - keys.MAX_KEYS
    note = f" The {keys.MAX_KEYS} most important keys; {left_out} more are left out." if left_out > 0 else ""
    is_sample = record.count("complete") > keys.MAX_LINES
    lines = "Every few completed trials" if is_sample else "Completed trials"
    shown = ", ".join(by_importance[: keys.MAX_KEYS])
    parallel = Chart(
        partial(keys.parallel, record, by_importance),
        f"Parallel coordinates: the completed trials as lines through the values of {shown}.",
        f"{lines} as lines: the darker, the better; the best is orange. Where dark lines meet on an axis is a good"
        f" value of its key.{note}",
        "wide chart",
    )
    slices = Chart(
        partial(keys.slices, record, by_importance),
        f"Slices: values of the trials against each of {shown}.",
        "A trend or a peak shows which values of a key are good; a best trial at the edge of a panel, that the"
        " range of its key should be extended there." + note,
        "wide chart",
    )
    return {"parallel": parallel, "slices": slices}


def _importance(record: SweepRecord, shares: dict[str, float], why_not: str) -> Chart:
    def draw(path: Path) -> None:
        if not shares:
            raise NothingToDraw(why_not)
        figures.importance(shares, path)

    completed = record.count("complete")
    what = "on the Pareto front or next to it" if len(record.objectives) > 1 else "best"
    return Chart(
        draw,
        "Importance of the keys: " + ", ".join(f"{key} {percent(share, 0)}" for key, share in shares.items()) + ".",
        f"How far a key's values in the {num_top(completed)} trials that are {what} differ from those in all"
        f" {completed} completed ones (PED-ANOVA). Few trials make it a hint, not a proof.",
    )


def _pareto(record: SweepRecord) -> Chart:
    names = " against ".join(metric_name(objective.name) for objective in record.objectives)
    return Chart(
        partial(figures.pareto, record),
        f"Pareto front of {names}: {len(record.best())} of {record.count('complete')} completed trials.",
        "Stars, with the numbers of their trials: what is better than one of them in one objective is worse in another."
        " For every other trial there is a star that is at least as good in everything.",
        "chart" if len(record.objectives) == 2 else "wide chart",
    )
