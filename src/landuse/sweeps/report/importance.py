"""How much each swept key matters, by PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023)."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from landuse.sweeps.records import SweepRecord, TrialRecord
from landuse.sweeps.report.reading import NothingToDraw, is_number, is_wide, value_text

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MIN_COMPLETED = 10  # trials; of fewer, the best are too few to tell a habit from chance
TOP_SHARE, MIN_TOP = 0.1, 4  # the best trials: this share of the completed ones, and at least so many


def num_top(num_completed: int) -> int:
    """How many trials count as the best, whose values are compared with those of all."""
    return max(MIN_TOP, round(TOP_SHARE * num_completed))


def importances(record: SweepRecord) -> dict[str, float]:
    """Shares that sum to 1, the largest first: how far a key's values in the best trials differ from those in all.

    Raises:
        NothingToDraw: there are too few completed trials, or they tell nothing.
    """
    completed = [trial for trial in record.trials if trial.state == "complete"]
    keys = [key for key in record.keys if any(key in trial.params for trial in completed)]
    if len(completed) < MIN_COMPLETED:
        raise NothingToDraw(
            f"Which keys matter can be told from {MIN_COMPLETED} completed trials on; there are {len(completed)}."
        )
    if not keys or len({trial.values for trial in completed}) == 1:
        raise NothingToDraw("Which keys matter cannot be told: all completed trials have the same values.")
    found = _ped_anova(record, keys, completed)
    total = sum(found.values())
    if not total > 0:
        raise NothingToDraw("Which keys matter cannot be told: no key had values that only good trials share.")
    return {key: value / total for key, value in sorted(found.items(), key=lambda item: (-item[1], item[0]))}


def _ped_anova(record: SweepRecord, keys: Sequence[str], completed: Sequence[TrialRecord]) -> dict[str, float]:
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    spaces = {key: _distribution([trial.params[key] for trial in completed if key in trial.params]) for key in keys}

    def point(trial: TrialRecord) -> dict[str, Any]:
        return {
            key: value_text(trial.params[key]) if isinstance(space, CategoricalDistribution) else trial.params[key]
            for key, space in spaces.items()
            if key in trial.params
        }

    with _quiet(optuna):
        study = optuna.create_study(directions=[objective.direction for objective in record.objectives])
        for trial in completed:
            params = point(trial)
            of_trial = {key: spaces[key] for key in params}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=of_trial, values=list(trial.values)))
        # Half a trial less: the evaluator rounds up, and would round up a rounding error as well.
        evaluator = PedAnovaImportanceEvaluator(target_quantile=(num_top(len(completed)) - 0.5) / len(completed))
        # Shares are taken by the caller: normalised here, nothing at all would read as equal importance.
        return get_param_importances(study, evaluator=evaluator, normalize=False)


def _distribution(values: Sequence[Any]) -> "BaseDistribution":
    """The range that the values span, for the range that was searched may have changed on the way."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not all(is_number(value) for value in values):
        return CategoricalDistribution(sorted({value_text(value) for value in values}))
    low, high, log = min(values), max(values), is_wide(list(values))
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's words on a study that nobody is to know of and on interfaces that it calls experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
