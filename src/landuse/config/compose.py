"""From Hydra's composition to typed objects."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from landuse.config.folders import run_folder
from landuse.config.messages import explain, unknown_key, wrong_choice
from landuse.config.schema import MODEL_KINDS, Config, ModelConfig
from landuse.errors import UserError
from landuse.models.names import TORCHVISION_CLASSIFIERS


@functools.cache
def register() -> None:
    """Tell Hydra the schema, every torchvision classifier as a choice of ``model``, and how run folders are named."""
    OmegaConf.register_resolver("run_folder", run_folder, replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for kind, node in MODEL_KINDS.items():
        store.store(group="schema/model", name=kind, node=node)
    for name in TORCHVISION_CLASSIFIERS:  # a YAML file of the same name goes first
        store.store(group="model", name=name, node={"defaults": ["torchvision", "_self_"], "name": name})


def to_config(composed: DictConfig) -> Config:
    """Typed objects from a composed tree.

    Raises:
        UserError: a key that no dataclass has (Hydra lets ``+typo=1`` through), or a value of the wrong type.
    """
    tree = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(tree, dict)
    return from_tree(tree)


def from_tree(tree: dict[Any, Any]) -> Config:
    """Typed objects from plain nested dictionaries, such as a run folder's config.yaml.

    Raises:
        UserError: as :func:`to_config`.
    """
    model_class = _model_class(tree.get("model"))
    for key in _unknown_keys(tree, Config, model_class):
        raise UserError(unknown_key(key, model_class))
    try:
        result = OmegaConf.to_object(OmegaConf.merge(_schema(tree["model"]["kind"]), tree))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(result, Config)
    return result


@functools.cache
def _schema(model_kind: str) -> DictConfig:
    """What a tree is merged into; to make it takes as long as the merging, and trials of a sweep share a process."""
    schema = OmegaConf.merge(OmegaConf.structured(Config), {"model": OmegaConf.structured(MODEL_KINDS[model_kind])})
    assert isinstance(schema, DictConfig)
    return schema


PRESENT = ("data.home", "outputs", "variant", "input", "export", "predict", "serve", "drift")


def overlay(run_tree: dict[Any, Any], composed: DictConfig, overrides: Iterable[str]) -> Config:
    """The configuration of an earlier run, with what the present command line says put on top.

    What belongs to the machine or to later commands and not to the run is the present one's in any case: a run of a
    stranger's must not say where things are written, or what an export may lose.

    Args:
        run_tree: the run's config.yaml.
        composed: the present command's composition.
        overrides: the present command's overrides as typed. A group choice (``data=folder``) replaces the run's whole
            group by the composed one; ``key=value`` replaces that key alone; a recipe (``experiment=``) everything.
    """
    tree = OmegaConf.create(run_tree)
    typed = [override.lstrip("+~").partition("=")[0] for override in overrides]
    if {"experiment", "debug"} & set(typed):  # these spread over the whole tree
        return to_config(composed)
    if "tracking" in typed:  # what the choice says; the rest, such as the project, is the run's
        default, chosen = Config().tracking, composed.tracking
        typed += [f"tracking.{name}" for name, value in vars(default).items() if chosen[name] != value]
        typed = ["tracking.mode" if key == "tracking" else key for key in typed]
    for key in (*typed, *PRESENT):
        value = OmegaConf.select(composed, key)
        value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        try:
            OmegaConf.update(tree, key, value, merge=False, force_add=True)
        except (ValueError, TypeError, OmegaConfBaseException) as error:
            raise UserError(f"The run's config.yaml is not what training wrote ({key} has no place in it).") from error
    return to_config(tree)


def _model_class(model: Any) -> type[ModelConfig]:
    kind = model.get("kind") if isinstance(model, dict) else None
    if not isinstance(kind, str) or kind not in MODEL_KINDS:
        raise UserError(wrong_choice("model.kind", kind, MODEL_KINDS))
    return MODEL_KINDS[kind]


def _unknown_keys(tree: dict[Any, Any], node: Any, model: type[ModelConfig], prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(node)
    for key, value in tree.items():
        child = model if hints.get(key) is ModelConfig else hints.get(key)
        if key not in hints:
            yield f"{prefix}{key}"
        elif dataclasses.is_dataclass(child) and isinstance(value, dict):
            yield from _unknown_keys(value, child, model, f"{prefix}{key}.")
