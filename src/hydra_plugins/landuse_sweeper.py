"""Hydra's hook: the sweeper ``landuse``, which is hydra-optuna-sweeper with a study that survives.

Hydra imports this file at every start of every Hydra application in the environment, so it imports as little as can be.
It must stay in ``hydra_plugins`` and that must stay without an ``__init__.py``, or Hydra does not find it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig


@dataclass
class LanduseSweeperConfig:
    _target_: str = "hydra_plugins.landuse_sweeper.LanduseSweeper"
    _recursive_: bool = False  # the sampler is made anew for every trial, with a seed of its own
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "none"}])
    sampler: Any = MISSING  # hydra/sweeper/sampler: tpe, random, grid, cmaes, gp, nsgaii, nsgaiii, qmc
    pruner: Any = MISSING  # hydra/sweeper/pruner: none, median, percentile, hyperband, successive_halving
    objective: Any = None  # a metric of summary.json or a list of them; null: what trainer.monitor says
    storage: str | None = None  # null: study.journal in the sweep's folder; or postgresql://USER@HOST/DATABASE
    study_name: str | None = "${hydra:runtime.choices.sweeps}"
    n_trials: int | None = None  # finished ones in all, those of earlier starts included; null: 20, or all of a grid
    n_jobs: int = 1  # trials handed to the launcher at once; more than one takes a launcher that runs them in parallel
    workers: int = 0  # processes that share the study, each with a share of the cores and a GPU; 0: this process alone
    max_failures: int = 5  # of one start; one more ends the sweep
    params: dict[str, Any] | None = None  # key -> choice(a,b), range(1,8), interval(0,1), tag(log, interval(1e-4, 1))
    dry_run: bool = False  # show the space, the budget and the first points, and train nothing


@dataclass
class NonePrunerConfig:
    _target_: str = "optuna.pruners.NopPruner"


@dataclass
class MedianPrunerConfig:
    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = 4  # trials before any is pruned
    n_warmup_steps: int = 2  # the first epoch after which any is pruned
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class PercentilePrunerConfig(MedianPrunerConfig):
    _target_: str = "optuna.pruners.PercentilePruner"
    percentile: float = 25.0  # of trials that are kept


@dataclass
class HyperbandPrunerConfig:
    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: int = 1  # epochs of the first rung
    max_resource: Any = "${trainer.epochs}"
    reduction_factor: int = 3


@dataclass
class SuccessiveHalvingPrunerConfig:
    _target_: str = "optuna.pruners.SuccessiveHalvingPruner"
    min_resource: Any = 1  # epochs of the first rung; or auto
    reduction_factor: int = 3
    min_early_stopping_rate: int = 0


class LanduseSweeper(Sweeper):
    """Runs the trials of a study one after another, or several at once through a launcher that can."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self._make_launcher = partial(
            Plugins.instance().instantiate_launcher,
            hydra_context=hydra_context, task_function=task_function, config=config,
        )  # fmt: skip

    def sweep(self, arguments: Sequence[str]) -> Any:
        from landuse.sweeps.engine import run

        assert self.config is not None and self.hydra_context is not None
        return run(self.config, self.hydra_context.config_loader, self._make_launcher, self._settings, list(arguments))


_store = ConfigStore.instance().store
_store(group="hydra/sweeper", name="landuse", node=LanduseSweeperConfig, provider="landuse")
for _name, _node in {
    "none": NonePrunerConfig,
    "median": MedianPrunerConfig,
    "percentile": PercentilePrunerConfig,
    "hyperband": HyperbandPrunerConfig,
    "successive_halving": SuccessiveHalvingPrunerConfig,
}.items():
    _store(group="hydra/sweeper/pruner", name=_name, node=_node, provider="landuse")
