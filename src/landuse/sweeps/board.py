"""The live leaderboard of a sweep: a table on a terminal, elsewhere a line for each trial that ends."""

import logging
import sys
from types import TracebackType

from rich.live import Live
from rich.table import Table

from landuse.progress import terminal
from landuse.sweeps.records import FINISHED, SweepRecord, TrialRecord, shown_params, shown_values
from landuse.sweeps.study import Sweep

log = logging.getLogger("landuse.board")  # workers write the sweep's log, into which this would go as well

SHOWN, LEADING = 10, 5  # rows; of completed trials at least, where many run


class Board:
    """Use as a context manager and call :meth:`show` now and then."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep, record = sweep, sweep.record()
        self._told = {trial.number for trial in record.trials if trial.ended is not None}
        self._num_finished = record.num_finished
        self._live = Live(console=terminal(), refresh_per_second=2, transient=True) if sys.stderr.isatty() else None

    def __enter__(self) -> "Board":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self) -> None:
        """The sweep as it stands."""
        record = self._sweep.record()
        for trial in record.trials:
            if trial.ended is not None and trial.number not in self._told:
                self._told.add(trial.number)
                self._num_finished += trial.state in FINISHED
                log.info("%s  [%d of %d]", line(record, trial), self._num_finished, record.n_trials)
        if self._live is not None:
            self._live.update(table(record))


def line(record: SweepRecord, trial: TrialRecord) -> str:
    """How a trial ended, in one line."""
    if trial.state == "complete":
        outcome = shown_values(record.objectives, trial.values)
    elif trial.state == "pruned":
        outcome = f"pruned after epoch {trial.epochs}"
    else:
        outcome = f"{trial.state}: {trial.reason}".splitlines()[0]
    best = record.best()
    leader = f" (best {shown_values(record.objectives, best[0].values)}, trial {best[0].number})" if best else ""
    return f"trial {trial.number}: {outcome}; {shown_params(trial.params)}{leader}"


def table(record: SweepRecord) -> Table:
    """The best trials and those that run, as rich draws them."""
    title = f"{record.name}: {record.progress}, {record.count('failed')} failed"
    drawn = Table("trial", "state", *(o.name for o in record.objectives), "epochs", "overrides", title=title)
    ranked = record.ranked()
    running = [trial for trial in ranked if trial.state == "running"]
    leading = [trial for trial in ranked if trial.state == "complete"][: max(LEADING, SHOWN - len(running))]
    for trial in [*leading, *running]:
        values = [f"{value:.4g}" for value in trial.values] or [""] * len(record.objectives)
        drawn.add_row(str(trial.number), trial.state, *values, str(trial.epochs), shown_params(trial.params))
    return drawn
