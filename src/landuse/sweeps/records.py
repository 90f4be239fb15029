"""A study's trials as plain records, ranked, and as leaderboard.csv."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from landuse.files import replacing
from landuse.sweeps.objective import Objective
from landuse.sweeps.space import override_value

State = Literal["complete", "pruned", "failed", "interrupted", "running", "waiting"]
SEED = "seed"
FINISHED: tuple[State, ...] = ("complete", "pruned")
RANKED: tuple[State, ...] = ("complete", "pruned", "running", "waiting", "interrupted", "failed")


@dataclass(frozen=True)
class TrialRecord:
    """What is known of one trial."""

    number: int
    state: State
    params: dict[str, Any]  # swept key -> value
    values: tuple[float, ...] = ()  # one an objective, of a completed trial
    curve: dict[int, float] = field(default_factory=dict)  # epoch, from 1 on -> the monitored metric after it
    run: str = ""  # folder
    reason: str = ""  # why it failed
    worker: str = ""  # who ran it
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def epochs(self) -> int:
        """How many it trained."""
        return len(self.curve)

    @property
    def seconds(self) -> float | None:
        """From start to end."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as it stands."""

    name: str
    objectives: list[Objective]
    keys: list[str]  # swept
    n_trials: int  # asked for
    trials: list[TrialRecord]  # by number

    def count(self, *states: State) -> int:
        """How many trials are in these states."""
        return sum(trial.state in states for trial in self.trials)

    @property
    def num_finished(self) -> int:
        """Trials that count: completed or pruned."""
        return self.count(*FINISHED)

    @property
    def progress(self) -> str:
        """How many trials finished, of how many; a sweep that once was longer has more than were asked for."""
        if self.num_finished > self.n_trials:
            return f"{self.num_finished} trials finished, {self.n_trials} asked for"
        return f"{self.num_finished} of {self.n_trials} trials finished"

    def ranked(self) -> list[TrialRecord]:
        """Best first: completed ones by their first objective, then by how far they came; failed ones at the end."""

        def key(trial: TrialRecord) -> tuple[int, float, int]:
            sign = -1 if self.objectives[0].direction == "maximize" else 1
            return RANKED.index(trial.state), sign * trial.values[0] if trial.values else -trial.epochs, trial.number

        return sorted(self.trials, key=key)

    def best(self) -> list[TrialRecord]:
        """Completed trials that no other beats in every objective: one or, of several objectives, the Pareto front."""
        complete = [trial for trial in self.ranked() if trial.state == "complete"]
        if len(self.objectives) == 1:
            return complete[:1]
        return [trial for trial in complete if not any(self._dominates(other, trial) for other in complete)]

    def _dominates(self, one: TrialRecord, other: TrialRecord) -> bool:
        pairs = list(zip(self.objectives, one.values, other.values, strict=True))
        is_worse = any(objective.is_better(b, a) for objective, a, b in pairs)
        return not is_worse and any(objective.is_better(a, b) for objective, a, b in pairs)


@dataclass(frozen=True)
class Repeat:
    """The same configuration with several seeds."""

    params: dict[str, Any]  # without the seed
    values: list[float]  # of the first objective

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation of the sample."""
        return statistics.stdev(self.values)

    def __str__(self) -> str:
        shown = shown_params(self.params)
        return f"{self.mean:.4f} \u00b1 {self.spread:.4f} (standard deviation, n = {len(self.values)}) {shown}".strip()


def repeats(record: SweepRecord) -> list[Repeat]:
    """Configurations that completed with two seeds or more, the best mean first; empty unless ``seed`` is swept."""
    found: dict[str, Repeat] = {}
    for trial in record.trials:
        if SEED in trial.params and trial.state == "complete":
            params = {key: value for key, value in trial.params.items() if key != SEED}
            found.setdefault(str(params), Repeat(params, [])).values.append(trial.values[0])
    several = [repeat for repeat in found.values() if len(repeat.values) > 1]
    return sorted(several, key=lambda repeat: repeat.mean, reverse=record.objectives[0].direction == "maximize")


def write_leaderboard(record: SweepRecord, path: Path) -> None:
    """``trial,state,value,epochs,seconds,run``, then a column a swept key, then one a further objective."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        further = [objective.name for objective in record.objectives[1:]]
        writer.writerow(["trial", "state", "value", "epochs", "seconds", "run", *record.keys, *further])
        for trial in record.ranked():
            values = [f"{value:.10g}" for value in trial.values] or [""] * len(record.objectives)
            seconds = "" if trial.seconds is None else f"{trial.seconds:.1f}"
            params = [override_value(trial.params[key]) if key in trial.params else "" for key in record.keys]
            writer.writerow(
                [trial.number, trial.state, values[0], trial.epochs, seconds, trial.run, *params, *values[1:]]
            )


def shown_params(params: Mapping[str, Any]) -> str:
    """``key=value key=value``, numbers shortened."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={override_value(value)}"
        for key, value in params.items()
    )


def shown_values(objectives: Sequence[Objective], values: Sequence[float]) -> str:
    """``val/accuracy 0.9412, parameters 12,345``."""
    pairs = zip(objectives, values, strict=True)
    return ", ".join(f"{o.name} {v:,.0f}" if v == int(v) and v > 1 else f"{o.name} {v:.4f}" for o, v in pairs)
