"""What a sweep optimises: metrics of a run's summary. Each has its direction, so that nobody has to name one."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from landuse.errors import PrunedError, UserError

Direction = Literal["maximize", "minimize"]
LATENCY = "latency_ms"
# Of summary.json; of those that a run monitors, the value of its best epoch.
DIRECTIONS: dict[str, Direction] = {
    "val/accuracy": "maximize",
    "val/loss": "minimize",
    "parameters": "minimize",
    "train_seconds": "minimize",
    LATENCY: "minimize",  # of one image; not in the summary, but measured when it is asked for
    "images_per_second": "maximize",
}
MONITORED = ("val/accuracy", "val/loss")  # values of trainer.monitor


@dataclass(frozen=True)
class Objective:
    """One metric and where it is to go."""

    name: str
    direction: Direction

    def is_better(self, value: float, than: float) -> bool:
        """Whether ``value`` is strictly better."""
        return value > than if self.direction == "maximize" else value < than


def objectives(named: Any, monitor: str) -> list[Objective]:
    """The objectives of a sweep.

    Args:
        named: ``hydra.sweeper.objective``: None (what ``trainer.monitor`` says), a metric, or a list of metrics.
        monitor: ``trainer.monitor``.

    Raises:
        UserError: no such metric, one named twice, or one that a run could monitor but does not.
    """
    names = [monitor] if named is None else [str(name) for name in (named if isinstance(named, list) else [named])]
    for name in names:
        if name not in DIRECTIONS:
            raise UserError(f"hydra.sweeper.objective={name}: no such metric. Choose from {', '.join(DIRECTIONS)}.")
        if name in MONITORED and name != monitor:
            raise UserError(
                f"hydra.sweeper.objective={name} is not what a run watches: name it once, as trainer.monitor={name}."
            )
    if not names or len(set(names)) < len(names):
        raise UserError(f"hydra.sweeper.objective={names}: give each metric once.")
    return [Objective(name, DIRECTIONS[name]) for name in names]


def read_values(run: Path, objectives: Sequence[Objective]) -> list[float]:
    """The values that a finished run reached.

    Raises:
        PrunedError: the run was stopped early.
        ValueError: it is not finished, or lacks a metric or has it without a finite value.
    """
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    if summary.get("status") == "pruned":
        raise PrunedError(f"pruned after epoch {summary.get('epochs')}")
    if summary.get("status") != "completed":
        raise ValueError(f"the run ended as {summary.get('status')}")
    values = []
    for objective in objectives:
        value = _latency(run) if objective.name == LATENCY else summary.get(objective.name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{objective.name} is {value} in {run / 'summary.json'}")
        values.append(float(value))
    return values


def _latency(run: Path) -> float:
    from landuse.sweeps.latency import measure

    try:
        return measure(run)
    except Exception as error:  # out of memory, for example: it costs this trial, and not every start of the sweep
        raise ValueError(f"{LATENCY} cannot be measured: {error}") from error


def read_curve(run: Path, monitor: str) -> list[float]:
    """The monitored metric after each epoch of a run; empty where the run has no record of them."""
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [float(json.loads(line)[monitor]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return []
