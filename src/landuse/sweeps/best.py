"""The best trial as a recipe: a YAML file that a training takes by ``+<sweep>=best``."""

from typing import Any

import yaml
from omegaconf import DictConfig

from landuse.config import compose
from landuse.files import replacing
from landuse.runs import comparable, to_tree
from landuse.sweeps.plan import Plan, trial_config
from landuse.sweeps.records import TrialRecord, shown_values

GROUPS = ("model", "data", "augment", "trainer", "hardware")
LEFT_OUT = ("trainer.profile", "run_name", "experiment_name", "model.kind")


def write_best(trial: TrialRecord, config: DictConfig, loader: Any, plan: Plan) -> None:
    """Write ``best.yaml`` in the sweep's folder: the trial's choices of groups, and the keys that differ from them.

    Args:
        config: the composition of the multirun.
        loader: Hydra's config loader.
    """
    from hydra import compose as hydra_compose

    overrides = plan.space.overrides(trial.params)  # not the run's config.yaml, which people may have removed
    choices = loader.load_sweep_config(config, overrides).hydra.runtime.choices
    chosen = {group: choices[group] for group in GROUPS}
    composed = hydra_compose("config", [f"{group}={choice}" for group, choice in chosen.items()])
    default = comparable(to_tree(compose.to_config(composed)))
    content = comparable(to_tree(trial_config(config, loader, overrides)))
    own: dict[str, Any] = {}
    for key, value in content.items():
        if value != default.get(key) and not key.startswith(LEFT_OUT):
            *path, leaf = key.split(".")
            node = own
            for part in path:
                node = node.setdefault(part, {})
            node[leaf] = value
    recipe = {"defaults": [*({f"override /{group}": choice} for group, choice in chosen.items()), "_self_"], **own}
    with replacing(plan.folder / "best.yaml") as temporary:
        head = f"# @package _global_\n# Trial {trial.number} of the sweep {plan.name}: "
        head += f"{shown_values(plan.objectives, trial.values)}\n"
        temporary.write_text(
            head + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8", newline="\n"
        )
