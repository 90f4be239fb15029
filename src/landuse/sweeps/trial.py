"""A training that is a trial of a sweep: it reports after each validation, and stops when the pruner says so.

A sweep tells the training which trial it is through the environment, which reaches it through every launcher.
"""

import os
from pathlib import Path
from typing import Any

from landuse.errors import PrunedError
from landuse.sweeps.plan import build
from landuse.sweeps.storage import open_storage

FOLDER, STUDY, NUMBER = (f"LANDUSE_SWEEP_{name}" for name in ("FOLDER", "STUDY", "TRIAL"))
TOLD = "its sweep was interrupted, or has taken it for abandoned: the point is queued again"


def environment(folder: Path, study: str, number: int) -> dict[str, str]:
    """What to set for a training to be trial ``number``."""
    return {FOLDER: str(folder.resolve()), STUDY: study, NUMBER: str(number)}


def is_trial() -> bool:
    """Whether this process trains a trial of a sweep."""
    return bool(os.environ.get(NUMBER))


class PruningObserver:
    """Tells the study of every epoch, and ends the training where its pruner asks for it."""

    def __init__(self, monitor: str, num_epochs: int) -> None:
        import optuna
        from hydra.core.hydra_config import HydraConfig

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._monitor, self._num_epochs = monitor, num_epochs
        sweeper = HydraConfig.get().sweeper  # the storage from here, as an override would show its password
        study = optuna.load_study(
            study_name=os.environ[STUDY],
            storage=open_storage(Path(os.environ[FOLDER]), sweeper.storage, is_under_way=True),
            pruner=build(sweeper.pruner),
        )
        frozen = study.get_trials(deepcopy=False)[int(os.environ[NUMBER])]
        if frozen.state.is_finished():  # a job of a cluster that began only now
            raise PrunedError(TOLD)
        self._trial = optuna.trial.Trial(study, frozen._trial_id) if len(study.directions) == 1 else None

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        """Nothing: only validations are reported."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Report the monitored metric.

        Raises:
            PrunedError: the trial has no prospects any more, or is one that nobody waits for.
        """
        if self._trial is None:  # Optuna prunes by a single objective
            return
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            # From 1 on: a pruner's resource of 3 is three epochs, and steps from 0 on would make it four.
            self._trial.report(record[self._monitor], record["epoch"] + 1)
        except UpdateFinishedTrialError as error:  # where a launcher's jobs outlive the sweep
            raise PrunedError(TOLD) from error
        if record["epoch"] + 1 < self._num_epochs and self._trial.should_prune():  # after the last nothing is saved
            raise PrunedError(f"pruned after epoch {record['epoch'] + 1}")
