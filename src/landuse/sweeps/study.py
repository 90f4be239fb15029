"""An Optuna study that several processes work on, any of which may be killed at any time.

What makes it survive: a trial is handed out under a lock, and whoever runs it holds a lock of its own until it is told;
both end with their process. A trial that is running while nobody holds its lock was killed: if its run had finished,
its result is read from the run folder, and otherwise it is recorded as failed and its point is queued again.
"""

import hashlib
import json
import logging
import os
import socket
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse.errors import SweepFailedError, UserError
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

    def __init__(self, plan: Plan, session: str) -> None:
        """Open the study of a plan; make it where there is none.

        Args:
            session: of one start of the sweep, shared by its workers; failures are counted within it.

        Raises:
            UserError: the storage cannot be used, or holds a study of another space, objective or configuration.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        plan.folder.mkdir(parents=True, exist_ok=True)
        storage = open_storage(plan.folder, plan.storage)
        self.plan, self._session = plan, session
        self._locks = open_locks(plan.folder, storage, plan.name)
        with exclusive(self._locks):
            self._study = optuna.create_study(
                study_name=plan.name, storage=storage, pruner=build(plan.pruner),
                directions=[objective.direction for objective in plan.objectives], load_if_exists=True,
            )  # fmt: skip
            self._agree()
            if plan.is_grid:
                self._queue_grid()

    def _agree(self) -> None:
        """Write down what the study is of, or compare."""
        plan = self.plan
        now: dict[str, dict[str, Any]] = {
            SPACE: plan.space.describe(),
            OBJECTIVE: {o.name: o.direction for o in plan.objectives},
            BASE: {key: json.loads(json.dumps(value)) for key, value in plan.base.items()},
        }
        then = self._study.user_attrs
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
        for point in grid_points(self.plan.space):
            self._study.enqueue_trial(point, skip_if_exists=True)

    def claim(self) -> "Trial | None":
        """The next trial, for this process to run; None when enough have finished or are being run.

        Raises:
            SweepFailedError: too many have failed.
        """
        with exclusive(self._locks):
            self._take_in_abandoned()
            record = self.record()
            self.raise_if_too_many_failed()
            if record.num_finished + record.count("running") >= self.plan.n_trials or self.is_exhausted(record):
                return None
            self._study.sampler = _sampler(self.plan, sum(trial.state != "waiting" for trial in record.trials))
            trial = self._study.ask(fixed_distributions=self.plan.space.distributions)
            self._locks.acquire(trial.number, wait=True)
            trial.set_user_attr("session", self._session)
            trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
            return trial

    def is_exhausted(self, record: SweepRecord) -> bool:
        """Whether every point of a grid has been begun."""
        return self.plan.is_grid and not record.count("waiting")

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

    def fail(self, number: int, reason: str, *, is_fault: bool = True, queue_again: bool = False) -> None:
        """Record a trial that came to no end.

        Args:
            is_fault: it counts among the failures; else it was interrupted.
            queue_again: its point is to be tried again.
        """
        from optuna.trial import TrialState

        if not self._is_ours(number):
            return
        self._annotate(number, reason=reason[:MAX_REASON], is_fault=is_fault)
        if queue_again:
            self._queue_again(self._trial(number), is_fault)
        self._tell(number, TrialState.FAIL)

    def _is_ours(self, number: int) -> bool:
        """Whether the trial is still to be told: whoever is cut off from the others for long counts as killed."""
        if not self._trial(number).state.is_finished():
            return True
        log.warning("trial %d was taken for abandoned and its point queued again: this result does not count", number)
        self._locks.release(number)
        return False

    def _queue_again(self, trial: "FrozenTrial", is_fault: bool) -> None:
        queued = {other.user_attrs.get("again") for other in self._study.get_trials(deepcopy=False)}
        if trial.number in queued or not _point(trial):  # killed after it was queued, or before it had a point
            return
        attributes = {"again": trial.number, "killed": trial.user_attrs.get("killed", 0) + is_fault}
        self._study.enqueue_trial(_point(trial), user_attrs=attributes)

    def _tell(self, number: int, state: Any, values: Sequence[float] | None = None) -> None:
        self._study.tell(number, values, state=state)
        self._locks.release(number)

    def _annotate(self, number: int, **attributes: Any) -> None:
        for key, value in attributes.items():
            self._study._storage.set_trial_user_attr(self._trial(number)._trial_id, key, value)

    def _trial(self, number: int) -> "FrozenTrial":
        return self._study.get_trials(deepcopy=False)[number]

    def take_in_abandoned(self) -> None:
        """Record the trials of processes that were killed."""
        with exclusive(self._locks):
            self._take_in_abandoned()

    def _take_in_abandoned(self) -> None:
        from optuna.trial import TrialState

        running = {t.number: t for t in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
        for number in self._locks.take_abandoned(list(running)):
            trial = running[number]
            run = self.run_folder(trial.number)
            try:
                values = read_values(run, self.plan.objectives)
            except (OSError, ValueError):
                self._take_in_killed(trial)
            else:
                log.info("trial %d had finished when its process was killed: its result is kept", trial.number)
                self.complete(trial.number, values, read_curve(run, self.plan.monitor))

    def _take_in_killed(self, trial: "FrozenTrial") -> None:
        is_fault = trial.user_attrs.get("session") == self._session  # else all of the sweep was stopped with it
        times = trial.user_attrs.get("killed", 0) + is_fault
        what = "its process was killed" if is_fault else "the sweep was stopped"
        again = "its point is queued again" if times < MAX_KILLED else f"given up after {times} times"
        log.warning("trial %d: %s; %s", trial.number, what, again)
        self.fail(trial.number, what, is_fault=is_fault, queue_again=times < MAX_KILLED)

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
            raise SweepFailedError(
                f"{len(failed)} trials failed, more than max_failures={self.plan.max_failures}; the last: trial "
                f"{failed[-1].number}, {failed[-1].user_attrs['reason']}. What has finished is kept: mend the cause "
                "and start the same command again."
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
        curve = trial.intermediate_values or dict(enumerate(attributes.get("curve", [])))
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


def first_points(plan: Plan, count: int) -> list[dict[str, Any]]:
    """The points that a new study of this plan begins with, by one worker."""
    import optuna

    if plan.is_grid:
        return grid_points(plan.space)[:count]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=[objective.direction for objective in plan.objectives])
    points = []
    for number in range(min(count, plan.n_trials)):
        study.sampler = _sampler(plan, number)
        points.append(study.ask(fixed_distributions=plan.space.distributions).params)
    return points


def _sampler(plan: Plan, num_started: int) -> Any:
    """Seeded anew for each trial, from the sampler's seed and how many were started before.

    Thus a sweep that goes on proposes neither what it has proposed before nor anything that depends on when it was
    interrupted.
    """
    import optuna

    if plan.is_grid:
        return optuna.samplers.RandomSampler()  # is not asked: every point is queued
    seed = plan.sampler.get("seed")
    if seed is None:
        return build(plan.sampler)
    mixed = hashlib.sha256(f"{seed}:{num_started}".encode()).digest()
    return build(plan.sampler, seed=int.from_bytes(mixed[:4], "big"))


def _point(trial: "FrozenTrial") -> dict[str, Any]:
    """What was chosen for it, or what was queued while it waits or was killed before it began."""
    return trial.params or dict(trial.system_attrs.get("fixed_params", {}))


def _difference(attribute: str, then: dict[str, Any], now: dict[str, Any]) -> str:
    """The first keys in which they differ, both values shown."""
    shown = shown_distribution if attribute == SPACE else str
    texts = []
    for key in sorted(then.keys() | now.keys()):
        before, after = (shown(side[key]) if key in side else "nothing" for side in (then, now))
        if before != after:
            texts.append(f"{key}: {before} then, {after} now")
    return "; ".join(texts[:3])
