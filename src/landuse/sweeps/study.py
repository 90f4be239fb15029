"""An Optuna study that several processes work on, any of which may be killed at any time.

What makes it survive: a trial is handed out under a lock, and whoever runs it holds a lock of its own until it is told;
both end with their process. A trial that is running while nobody holds its lock was killed: if its run had finished,
its result is read from the run folder, and otherwise it is recorded as failed and its point is queued again.
"""

import itertools
import json
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse.errors import PrunedError, SweepFailedError, UserError
from landuse.sweeps.objective import read_curve, read_values
from landuse.sweeps.plan import Plan, build
from landuse.sweeps.records import State, SweepRecord, TrialRecord, write_leaderboard
from landuse.sweeps.space import grid_points, shown_distribution
from landuse.sweeps.storage import exclusive, open_locks, open_storage

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)

MAX_KILLED = 3  # times that a point may be running when its process is killed; it may be what kills it
MAX_REASON = 2000  # characters
SPACE, OBJECTIVE, BASE = "space", "objective", "configuration"  # attributes of the study that must not change


class Sweep:
    """A study, and the trials of it that this process runs."""

    def __init__(self, plan: Plan, session: str, is_under_way: bool = False) -> None:
        """Open the study of a plan; make it where there is none.

        Args:
            session: of one start of the sweep, shared by its workers; failures are counted within it.
            is_under_way: who started this process has opened the storage before.

        Raises:
            UserError: the storage cannot be used, or holds a study of another space, objective or configuration.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        plan.folder.mkdir(parents=True, exist_ok=True)
        storage = open_storage(plan.folder, plan.storage, is_under_way)
        self.plan, self._session = plan, session
        self._locks = open_locks(plan.folder, storage, plan.name)
        with exclusive(self._locks):
            self._study = optuna.create_study(
                study_name=plan.name, storage=storage, pruner=build(plan.pruner),
                directions=[objective.direction for objective in plan.objectives], load_if_exists=True,
            )  # fmt: skip
            self._require_own_runs()
            self._agree()
            if plan.is_grid:
                self._queue_grid()

    def _require_own_runs(self) -> None:
        """Refuse the runs of a study that is gone: no trial may touch or answer for them."""
        trials = self.plan.folder / "trials"
        if any(trials.glob("*")) and not self._study.get_trials(deepcopy=False):
            raise UserError(
                f"{trials} has runs of a study that is gone: bring it back, choose another "
                "hydra.sweeper.study_name=NAME, or remove the folder."
            )

    def _agree(self) -> None:
        """Write down what the study is of, or compare."""
        plan = self.plan
        now: dict[str, dict[str, Any]] = {
            SPACE: plan.space.describe(),
            OBJECTIVE: {o.name: o.direction for o in plan.objectives},
            BASE: {key: json.loads(json.dumps(value)) for key, value in plan.base.items()},
        }
        then = self._study.user_attrs
        directions = [direction.name.lower() for direction in self._study.directions]
        if OBJECTIVE not in then and directions != list(now[OBJECTIVE].values()):
            then = {**then, OBJECTIVE: {"directions": ", ".join(directions)}}  # killed before their names
        for attribute, content in now.items():
            if attribute not in then:
                self._study.set_user_attr(attribute, content)
            elif then[attribute] != content:
                difference = _difference(attribute, then[attribute], content)
                raise UserError(
                    f"The sweep {plan.name} in {plan.folder} is of another {attribute} ({difference}), and trials of "
                    "both cannot be compared: choose another hydra.sweeper.study_name=NAME, or remove the folder."
                )

    def _queue_grid(self) -> None:
        """Queue the points that were neither queued before nor, unless in this very start, failed."""
        known = {
            json.dumps(_point(trial), sort_keys=True)
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.name != "FAIL" or trial.user_attrs.get("session") == self._session
        }
        for point in itertools.islice(grid_points(self.plan.space), self.plan.n_trials):
            if json.dumps(point, sort_keys=True) not in known:
                self._study.enqueue_trial(point)

    def claim(self) -> "Trial | None":
        """The next trial, for this process to run; None when enough have finished or are being run.

        Raises:
            SweepFailedError: too many have failed.
        """
        with exclusive(self._locks):
            self._take_in_abandoned()
            record = self.record()
            self.raise_if_too_many_failed()
            if self.num_to_begin(record) == 0:
                return None
            self._study.sampler = self.plan.new_sampler(sum(trial.state != "waiting" for trial in record.trials))
            trial = self._study.ask(fixed_distributions=self.plan.space.distributions)
            self._locks.acquire(trial.number, wait=True)
            trial.set_user_attr("session", self._session)
            trial.set_user_attr("worker", worker_name(os.getpid()))
            return trial

    def num_to_begin(self, record: SweepRecord) -> int:
        """How many trials are to be begun if all that run now come to their end; of a grid, points that wait."""
        missing = max(0, record.n_trials - record.num_finished - record.count("running"))
        return min(missing, record.count("waiting")) if self.plan.is_grid else missing

    def complete(self, number: int, values: Sequence[float], curve: Sequence[float]) -> None:
        """Record a trial that came to its end.

        Args:
            curve: the monitored metric after each epoch.
        """
        from optuna.trial import TrialState

        if self._is_ours(number):
            self._annotate(number, curve=list(curve))
            self._tell(number, TrialState.COMPLETE, values)

    def prune(self, number: int) -> None:
        """Record a trial that the pruner stopped."""
        from optuna.trial import TrialState

        if self._is_ours(number):
            self._tell(number, TrialState.PRUNED)

    def fail(
        self, number: int, reason: str, details: str = "", *, is_fault: bool = True, queue_again: bool = False
    ) -> None:
        """Record a trial that came to no end.

        Args:
            details: for its error.txt, unless the training has left a traceback there itself.
            is_fault: it counts among the failures, and its folder says why; else it was interrupted.
            queue_again: its point is to be tried again, unless it has cost `MAX_KILLED` processes by now.
        """
        from optuna.trial import TrialState

        if not self._is_ours(number):
            return
        if is_fault and not (error := self.run_folder(number) / "error.txt").is_file():
            with suppress(OSError):  # the disk is full, for example: the study should know all the same
                error.parent.mkdir(parents=True, exist_ok=True)
                error.write_text((details or reason) + "\n", encoding="utf-8", newline="\n")
        self._annotate(number, reason=" ".join(reason.split())[:MAX_REASON], is_fault=is_fault)
        if queue_again:
            self._queue_again(number, is_fault)
        self._tell(number, TrialState.FAIL)

    def _is_ours(self, number: int) -> bool:
        """Whether the trial is still to be told: whoever is cut off from the others for long counts as killed."""
        if not self._trial(number).state.is_finished():
            return True
        log.warning("trial %d was taken for abandoned and its point queued again: this result does not count", number)
        self._locks.release(number)
        return False

    def _queue_again(self, number: int, is_fault: bool) -> None:
        trials = self._study.get_trials(deepcopy=False)
        trial, queued = trials[number], {other.user_attrs.get("again") for other in trials}
        if number in queued or not _point(trial):  # killed after it was queued, or before it had a point
            return
        killed = trial.user_attrs.get("killed", 0) + is_fault
        if killed >= MAX_KILLED:
            log.warning(
                "trial %d: its point is given up, as its process ended without a result %d times", number, killed
            )
            return
        self._study.enqueue_trial(_point(trial), user_attrs={"again": number, "killed": killed})

    def _tell(self, number: int, state: Any, values: Sequence[float] | None = None) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        with suppress(UpdateFinishedTrialError):  # a connection broke after it was written, and it was asked again
            self._study.tell(number, values, state=state)
        self._locks.release(number)

    def _annotate(self, number: int, **attributes: Any) -> None:
        for key, value in attributes.items():
            self._study._storage.set_trial_user_attr(self._trial(number)._trial_id, key, value)

    def _trial(self, number: int) -> "FrozenTrial":
        return self._study.get_trials(deepcopy=False)[number]

    def take_in_abandoned(self, *, is_fault: bool = True) -> None:
        """Record the trials of processes that were killed; as failures, unless they were stopped with the sweep."""
        with exclusive(self._locks):
            self._take_in_abandoned(is_fault)

    def _take_in_abandoned(self, is_fault: bool = True) -> None:
        from optuna.trial import TrialState

        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for number in self._locks.take_abandoned([trial.number for trial in running]):
            trial = self._trial(number)
            if trial.state is not TrialState.RUNNING:  # it ended since the list was made
                self._locks.release(number)
            elif not self.keep_result(number):
                self._take_in_killed(trial, is_fault)

    def keep_result(self, number: int) -> bool:
        """Record a trial by what its run folder says, whatever became of its process; False where it has no result."""
        run = self.run_folder(number)
        try:
            values = read_values(run, self.plan.objectives)
        except PrunedError:
            self.prune(number)
        except (OSError, ValueError):
            return False
        else:
            self.complete(number, values, read_curve(run, self.plan.monitor))
        log.info("trial %d had come to its end already: its result is kept", number)
        return True

    def _take_in_killed(self, trial: "FrozenTrial", is_fault: bool) -> None:
        is_fault &= trial.user_attrs.get("session") == self._session  # else all of the sweep was stopped with it
        what = "its process was killed" if is_fault else "the sweep was stopped"
        log.warning("trial %d: %s", trial.number, what)
        self.fail(trial.number, what, is_fault=is_fault, queue_again=True)

    def raise_if_too_many_failed(self) -> None:
        """
        Raises:
            SweepFailedError: says how many, and the last reason.
        """
        failed = [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.user_attrs.get("is_fault") and trial.user_attrs.get("session") == self._session
        ]
        if len(failed) > self.plan.max_failures:
            reason = failed[-1].user_attrs["reason"].rstrip(".")
            raise SweepFailedError(
                f"More than max_failures={self.plan.max_failures} trials failed: {len(failed)}; the last: trial "
                f"{failed[-1].number}, {reason}. What has finished is kept: mend the cause and start the same command "
                "again."
            )

    def publish(self) -> None:
        """Write leaderboard.csv as things stand."""
        with exclusive(self._locks):
            write_leaderboard(self.record(), self.plan.folder / "leaderboard.csv")

    def run_folder(self, number: int) -> Path:
        """Where trial ``number`` trains."""
        return self.plan.folder / "trials" / str(number)

    def record(self) -> SweepRecord:
        """The sweep as it stands."""
        plan = self.plan
        trials = [self._record(trial) for trial in self._study.get_trials(deepcopy=False)]
        return SweepRecord(plan.name, plan.objectives, list(plan.space.distributions), plan.n_trials, trials)

    def _record(self, trial: "FrozenTrial") -> TrialRecord:
        attributes = trial.user_attrs
        state: State = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting"}.get(
            trial.state.name, "failed" if attributes.get("is_fault", True) else "interrupted"
        )  # type: ignore[assignment]
        curve = trial.intermediate_values or dict(enumerate(attributes.get("curve", []), start=1))
        point = _point(trial)
        return TrialRecord(
            number=trial.number,
            state=state,
            params={key: point[key] for key in self.plan.space.distributions if key in point},
            values=tuple(trial.values) if trial.values and state == "complete" else (),
            curve={int(epoch): float(value) for epoch, value in sorted(curve.items())},
            run=str(self.run_folder(trial.number)) if state != "waiting" else "",
            reason=attributes.get("reason", ""),
            worker=attributes.get("worker", ""),
            started=trial.datetime_start,
            ended=trial.datetime_complete,
        )


def worker_name(process_id: int) -> str:
    """By which a process of this machine is known to all that work on the study."""
    return f"{socket.gethostname()}:{process_id}"


def first_points(plan: Plan, count: int) -> list[dict[str, Any]]:
    """The points that a new study of this plan begins with, by one worker."""
    import optuna

    if plan.is_grid:
        return list(itertools.islice(grid_points(plan.space), min(count, plan.n_trials)))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=[objective.direction for objective in plan.objectives])
    points = []
    for number in range(min(count, plan.n_trials)):
        study.sampler = plan.new_sampler(number)
        points.append(study.ask(fixed_distributions=plan.space.distributions).params)
    return points


def _point(trial: "FrozenTrial") -> dict[str, Any]:
    """What was chosen for it, or was queued where its process was killed before all of it was taken up."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _difference(attribute: str, then: dict[str, Any], now: dict[str, Any]) -> str:
    """The first keys in which they differ, both values shown."""
    shown = shown_distribution if attribute == SPACE else str
    texts = []
    for key in sorted(then.keys() | now.keys()):
        before, after = (shown(side[key]) if key in side else "nothing" for side in (then, now))
        if before != after:
            texts.append(f"{key}: {before} then, {after} now")
    return "; ".join(texts[:3])
