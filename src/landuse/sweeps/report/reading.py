"""What the figures and the sections read from the records of a sweep, and how they word it."""

import math
from collections.abc import Mapping
from typing import Any

from landuse.page.wording import NBSP, duration, percent, significant
from landuse.sweeps.objective import MONITORED, Objective
from landuse.sweeps.records import SweepRecord, TrialRecord, shown_params

METRICS = {
    "val/accuracy": "validation accuracy",
    "val/loss": "validation loss",
    "parameters": "parameters",
    "train_seconds": "training time",
    "latency_ms": "latency",
    "images_per_second": "throughput",
}
EPOCHS_KEY = "trainer.epochs"
WIDE_RANGE = 100  # positive values whose largest is more than so many times the smallest have a logarithmic axis


class NothingToDraw(ValueError):  # noqa: N818
    """There is too little for a figure; the message is a sentence that stands in its place."""


def metric_name(metric: str) -> str:
    """A metric's key as people say it."""
    return METRICS.get(metric, metric)


def metric_text(metric: str, value: float) -> str:
    """A metric's value with its unit."""
    if metric == "val/accuracy":
        return percent(value, digits=2)
    if metric == "parameters":
        return f"{value:,.0f}"
    if metric == "train_seconds":
        return duration(value)
    if metric == "latency_ms":
        return f"{value:.4g}{NBSP}ms"
    return f"{value:,.0f}{NBSP}images/s" if metric == "images_per_second" else significant(value)


def value_text(value: Any) -> str:
    """A value of a swept key as an override has it, on one line."""
    text = "null" if value is None else str(value)
    # A lone surrogate, which a command line can hold, cannot be drawn.
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def short_value_text(value: Any) -> str:
    """Likewise, with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else value_text(value)


def overrides(params: Mapping[str, Any]) -> str:
    """``key=value key=value``, numbers shortened, on one line."""
    return value_text(shown_params(params))


def is_number(value: Any) -> bool:
    """Whether a value of a swept key is a finite number; truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_wide(values: list[float]) -> bool:
    """Whether values are better told apart on a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) > WIDE_RANGE * min(values)


def monitored(record: SweepRecord) -> Objective | None:
    """The objective that the curves show, epoch by epoch; None where what is monitored is no objective."""
    return next((objective for objective in record.objectives if objective.name in MONITORED), None)


def finite_curve(trial: TrialRecord) -> dict[int, float]:
    """Epoch -> the monitored metric; without epochs at which it was not finite."""
    return {epoch: value for epoch, value in sorted(trial.curve.items()) if math.isfinite(value)}


def reached(trial: TrialRecord, index: int, objective: Objective) -> float | None:
    """What a trial reached in an objective: its value or, of a trial that ended early, the best that its curve has.

    Args:
        trial: in any state.
        index: of the objective among those of the sweep.
        objective: the objective itself.
    """
    if trial.values:
        return trial.values[index]
    curve = finite_curve(trial).values()
    if objective.name not in MONITORED or not curve:
        return None
    return max(curve) if objective.direction == "maximize" else min(curve)


def epochs_saved(record: SweepRecord) -> int:
    """About how many epochs pruning saved: each pruned trial against the length that it was to have.

    That is its value of `EPOCHS_KEY` where this is swept, else the length of the longest completed trial. Without
    either, nothing is known and nothing counted.
    """
    longest = max((trial.epochs for trial in record.trials if trial.state == "complete"), default=0)
    saved = 0
    for trial in record.trials:
        if trial.state == "pruned":
            planned = trial.params.get(EPOCHS_KEY)
            saved += max(0, (planned if isinstance(planned, int) else longest) - trial.epochs)
    return saved


def drawn_keys(record: SweepRecord) -> list[str]:
    """The swept keys of which some trial has a value."""
    return [key for key in record.keys if any(key in trial.params for trial in record.trials)]
