"""From the composed configuration of a multirun to the plan of a sweep, checked before anything is trained."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from landuse.config import compose
from landuse.config.folders import name_problems
from landuse.config.messages import explain
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.errors import UserError
from landuse.runs import comparable, to_tree
from landuse.sweeps.objective import Objective, objectives
from landuse.sweeps.space import Space, check_points, grid_points, parse_space
from landuse.sweeps.storage import check_url

# In trials that are compared with each other: where, on which machine, and how it is watched.
MAY_DIFFER = ("hardware.", "trainer.device", "trainer.profile", "run_name", "experiment_name")
NUM_TRIALS = 20
BUILDABLE = ["optuna.*", "hydra_plugins.hydra_optuna_sweeper.*"]  # a recipe may name nothing else to be called
WHOLE_TREE = ("experiment", "debug")  # groups that spread over the whole tree


@dataclass(frozen=True)
class Plan:
    """What a sweep is: all that its configuration says."""

    name: str
    folder: Path
    storage: str | None
    objectives: list[Objective]
    monitor: str  # the metric that is reported after each epoch
    space: Space
    base: dict[str, Any]  # the configuration that trials have in common, dotted keys, without what is swept
    n_trials: int  # in all, those of earlier starts included
    n_jobs: int  # handed to the launcher at once
    max_failures: int  # of one start
    sampler: Any  # configuration
    pruner: Any

    @property
    def is_grid(self) -> bool:
        """Whether every point of the space is tried."""
        return _is_grid(self.sampler)

    @property
    def has_pruner(self) -> bool:
        """Whether trials may be stopped early."""
        return not str(self.pruner["_target_"]).endswith(".NopPruner")


def make_plan(config: DictConfig, loader: Any, settings: Mapping[str, Any], arguments: Sequence[str]) -> Plan:
    """Read the settings of ``hydra.sweeper``, and try out the configuration of trials.

    Args:
        loader: Hydra's, of this application.
        settings: of the sweeper, interpolations resolved.
        arguments: the overrides of the command line that are the trials'.

    Raises:
        UserError: a setting, a swept key or a swept value is wrong.
    """
    name = settings["study_name"]
    if name is None:
        raise UserError("The sweep has no name: give hydra.sweeper.study_name=NAME.")
    name = str(name).replace("/", "-")
    for problem in name_problems(str(config.outputs), **{"hydra.sweeper.study_name": name}):
        raise UserError(problem)
    if settings["workers"] < 0:
        raise UserError(f"hydra.sweeper.workers={settings['workers']}: must be at least 0.")
    for key in ("n_trials", "n_jobs"):
        if settings[key] is not None and settings[key] < 1:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: must be at least 1.")
    if settings["max_failures"] < 0:
        raise UserError(f"hydra.sweeper.max_failures={settings['max_failures']}: must be at least 0.")
    check_url(settings["storage"])
    space = parse_space(settings["params"] or {}, arguments)
    first: list[Config] = []

    def check(overrides: list[str]) -> None:
        trial = trial_config(config, loader, overrides)
        validate(trial)
        first.append(trial)

    check_points(space, check)
    named = settings["objective"]
    named = list(named) if isinstance(named, Sequence) and not isinstance(named, str) else named
    plan = Plan(
        name=name,
        folder=Path(str(config.outputs), "sweeps", name),
        storage=settings["storage"],
        objectives=objectives(named, first[0].trainer.monitor),
        monitor=first[0].trainer.monitor,
        space=space,
        base=_common(first[0], space),
        n_trials=_num_trials(settings, space),
        n_jobs=settings["n_jobs"],
        max_failures=settings["max_failures"],
        sampler=settings["sampler"],
        pruner=settings["pruner"],
    )
    if plan.has_pruner and len(plan.objectives) > 1:
        raise UserError("hydra/sweeper/pruner: several objectives cannot be pruned by; take hydra/sweeper/pruner=none.")
    return plan


def _num_trials(settings: Mapping[str, Any], space: Space) -> int:
    asked: int | None = settings["n_trials"]
    if not _is_grid(settings["sampler"]):
        return NUM_TRIALS if asked is None else asked
    num_points = len(grid_points(space))
    return num_points if asked is None else min(asked, num_points)


def _is_grid(sampler: Any) -> bool:
    return str(sampler["_target_"]).endswith(".GridSampler")


def build(config: Any, **arguments: Any) -> Any:
    """The sampler or pruner that a node of ``hydra.sweeper`` describes."""
    from hydra.utils import instantiate

    return instantiate(config, **arguments, _execution_whitelist_=BUILDABLE)


def trial_config(config: DictConfig, loader: Any, overrides: Sequence[str]) -> Config:
    """The typed configuration of the trial with these overrides.

    Raises:
        UserError: an override does not fit the configuration.
    """
    from hydra.errors import HydraException

    try:
        composed = loader.load_sweep_config(config, list(overrides))
        with_hydra = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        return compose.to_config(with_hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def _common(config: Config, space: Space) -> dict[str, Any]:
    swept = [re.sub(r"^\++", "", key).partition("@")[0] for key in space.distributions]
    if set(swept) & set(WHOLE_TREE):
        return {}
    differs = (*MAY_DIFFER, *(f"{key}." for key in swept))
    flat = comparable(to_tree(config))
    return {key: value for key, value in flat.items() if key not in swept and not key.startswith(differs)}
