"""From the composed configuration of a multirun to the plan of a sweep, checked before anything is trained."""

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from landuse.config import compose
from landuse.config.folders import name_problems
from landuse.config.messages import GROUPS, explain, wrong_group_value
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.errors import UserError
from landuse.runs import comparable, to_tree
from landuse.sweeps.objective import Objective, objectives
from landuse.sweeps.space import Space, check_points, grid_size, parse_space
from landuse.sweeps.storage import check_url

# In trials that are compared with each other: where, on which machine, and how it is watched.
MAY_DIFFER = ("hardware.", "trainer.device", "trainer.profile", "run_name", "experiment_name")
NUM_TRIALS = 20
BUILDABLE = ["optuna.*", "hydra_plugins.hydra_optuna_sweeper.*"]  # a recipe may name nothing else to be called
WHOLE_TREE = ("experiment", "debug")  # groups that spread over the whole tree
NOT_SWEPT = ("outputs", "run_name", "trainer.monitor", "trainer.resume", "sweeps")
RESERVED = (*GROUPS, "hydra", "schema", "sweeps")  # names of groups


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

    def new_sampler(self, num_started: int) -> Any:
        """Seeded anew for each trial, from the sampler's seed and how many were started before.

        Thus a sweep that goes on does not propose what it has proposed before. (A trial that was interrupted counts as
        started, so those after it have other seeds than without the interruption.)
        """
        import optuna

        if self.is_grid:
            return optuna.samplers.RandomSampler()  # is not asked: every point is queued
        kind, arguments = str(self.sampler["_target_"]).rpartition(".")[2], dict[str, Any]()
        seed = self.sampler.get("seed")
        if seed is not None and kind != "QMCSampler":  # whose study knows how far its sequence has come
            mixed = hashlib.sha256(f"{seed}:{num_started}".encode()).digest()
            arguments["seed"] = int.from_bytes(mixed[:4], "big")
        if kind == "TPESampler":
            arguments["constant_liar"] = True  # points of other workers count as poor, and are not proposed again
        return build(self.sampler, **arguments)

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
    name = _checked_name(settings["study_name"], str(config.outputs))
    _check_numbers(settings)
    for group in ("sampler", "pruner"):
        if settings[group] is None:
            raise UserError(f"hydra.sweeper.{group}=null: choose one by hydra/sweeper/{group}=NAME.")
    check_url(settings["storage"])
    space = parse_space(settings["params"] or {}, arguments)
    _check_keys(space)
    first: list[Config] = []

    def check(overrides: list[str]) -> None:
        trial = trial_config(config, loader, overrides)
        validate(trial)
        first.append(trial)

    check_points(space, check)
    if len({trial.trainer.monitor for trial in first}) > 1:  # by a choice of the group trainer
        raise UserError("trainer.monitor differs between trials, which cannot be compared then: give one for all.")
    if len({trial.trainer.epochs for trial in first}) > 1 and OmegaConf.is_interpolation(
        config.hydra.sweeper.pruner, "max_resource"
    ):
        raise UserError(
            "trainer.epochs differs between trials, each of which would make brackets of its own for Hyperband: "
            "give hydra.sweeper.pruner.max_resource=N, the most epochs of a trial."
        )
    plan = Plan(
        name=name,
        folder=Path(str(config.outputs), "sweeps", name),
        storage=settings["storage"],
        objectives=objectives(settings["objective"], first[0].trainer.monitor),
        monitor=first[0].trainer.monitor,
        space=space,
        base=_common(first[0], space),
        n_trials=_num_trials(settings, space),
        n_jobs=settings["n_jobs"],
        max_failures=settings["max_failures"],
        sampler=settings["sampler"],
        pruner=settings["pruner"],
    )
    _check_sampler_and_pruner(plan)
    return plan


def _checked_name(name: str | None, outputs: str) -> str:
    """The sweep's name, which becomes a folder and the group of its best recipe."""
    if name is None:
        raise UserError("The sweep has no name: give hydra.sweeper.study_name=NAME.")
    name = name.replace("/", "-")  # of a recipe in a folder of its own
    for problem in name_problems(outputs, **{"hydra.sweeper.study_name": name}):
        raise UserError(problem)
    if not re.fullmatch(r"[a-z_][\w.-]*", name, re.ASCII | re.IGNORECASE) or name in RESERVED or not _is_key(name):
        raise UserError(
            f"hydra.sweeper.study_name={name}: give a name of letters, digits, _, - and . that begins with a "
            "letter and is no group's, so that +NAME=best can choose the best trial."
        )
    return name


def _is_key(name: str) -> bool:
    """Whether Hydra reads the name as that of a group: of a..b, a. and true it does not."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"+{name}=best").key_or_group == name
    except HydraException:
        return False


def _check_numbers(settings: Mapping[str, Any]) -> None:
    for key, least in {"n_trials": 1, "n_jobs": 1, "workers": 0, "max_failures": 0}.items():
        if settings[key] is not None and settings[key] < least:
            raise UserError(f"hydra.sweeper.{key}={settings[key]}: must be at least {least}.")


def _check_keys(space: Space) -> None:
    for key in space.distributions:
        bare = key.lstrip("+")
        if bare in NOT_SWEPT or bare.startswith(("hydra.", "hydra/")):
            raise UserError(f"{key} cannot be swept: it is the same in all trials of a sweep.")


def _check_sampler_and_pruner(plan: Plan) -> None:
    """Make both once, so that a wrong setting is found before the sweep has a folder."""
    if plan.has_pruner and [objective.name for objective in plan.objectives] != [plan.monitor]:
        raise UserError(
            f"hydra/sweeper/pruner: trials are pruned by trainer.monitor={plan.monitor}, which must be the only "
            "objective; take hydra/sweeper/pruner=none, and a recipe without keys of another pruner."
        )
    if str(plan.sampler["_target_"]).endswith(".CmaEsSampler") and len(plan.objectives) > 1:
        raise UserError("hydra/sweeper/sampler=cmaes takes one objective: use tpe, nsgaii or random for several.")
    for group in ("pruner", "sampler"):
        try:
            _ = build(plan.pruner) if group == "pruner" else plan.new_sampler(0)
        except Exception as error:  # whatever its constructor thinks of the values, or a library that it lacks
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(f"hydra.sweeper.{group} cannot be made: {reason}") from error


def _num_trials(settings: Mapping[str, Any], space: Space) -> int:
    asked: int | None = settings["n_trials"]
    if not _is_grid(settings["sampler"]):
        return NUM_TRIALS if asked is None else asked
    num_points = grid_size(space)
    return num_points if asked is None else min(asked, num_points)


def _is_grid(sampler: Any) -> bool:
    return str(sampler["_target_"]).endswith(".GridSampler")


def build(config: Any, **arguments: Any) -> Any:
    """The sampler or pruner that a node of ``hydra.sweeper`` describes."""
    import optuna
    from hydra.utils import instantiate

    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
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
    except ValueError as error:  # Hydra's, of a choice that is no name
        raise UserError(wrong_group_value(overrides) or str(error)) from error


def _common(config: Config, space: Space) -> dict[str, Any]:
    swept = [re.sub(r"^\++", "", key).partition("@")[0] for key in space.distributions]
    if set(swept) & set(WHOLE_TREE):
        return {}
    differs = (*MAY_DIFFER, *(f"{key}." for key in swept))
    flat = comparable(to_tree(config))
    return {key: value for key, value in flat.items() if key not in swept and not key.startswith(differs)}
