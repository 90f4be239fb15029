"""From Hydra's composition to typed objects, and from its errors to one clear sentence."""

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from landuse.config.schema import MODEL_KINDS, Config, ModelConfig
from landuse.errors import UserError
from landuse.models.names import TORCHVISION_CLASSIFIERS

GROUPS = ("model", "data", "augment", "trainer", "hardware", "tracking", "experiment", "debug")


def config_dir() -> Path:
    """The folder of YAML files: ``conf/`` of the checkout, or the copy that an installed wheel carries."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent.parent / "conf"
    return checkout if (checkout / "config.yaml").is_file() else package / "conf"


@functools.cache
def register() -> None:
    """Tell Hydra's ConfigStore the schema, and every torchvision classifier as a choice of ``model``."""
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
        config = OmegaConf.merge(OmegaConf.structured(Config), {"model": OmegaConf.structured(model_class)}, tree)
        result = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(result, Config)
    return result


def overlay(run_tree: dict[Any, Any], composed: DictConfig, overrides: Iterable[str]) -> Config:
    """The configuration of an earlier run, with what the present command line says put on top.

    What belongs to the machine and not to the run (``data.home``, ``outputs``) is the present one's in any case.

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
    for key in (*typed, "data.home", "outputs"):
        value = OmegaConf.select(composed, key)
        value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        OmegaConf.update(tree, key, value, merge=False, force_add=True)
    return to_config(tree)


def explain(error: Exception) -> str:
    """One or two sentences for an error of Hydra or OmegaConf: what was typed, why it is wrong, what would be right."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error)
    cause = str(error.__cause__ or "")
    if match := re.search(r"Could not override '([^']+)'", text):
        owner = re.search(r"not in '(\w+)'", text + cause)
        models = {kind.__name__: kind for kind in MODEL_KINDS.values()}
        return unknown_key(match[1], models.get(owner[1]) if owner else None)
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        return _unknown_choice(match[1], match[2], re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE))
    key = match[1] if (match := re.search(r"full_key: (\S+)", text + "\n" + cause)) else ""
    if match := re.search(r"Invalid value '?(.*?)'?, expected one of \[(.*?)\]", text + "\n" + cause):
        return wrong_choice(key, match[1], re.findall(r"'([^']*)'", match[2]))
    if match := re.search(r"Value '(.*?)' of type '\w+' (.*)", text + "\n" + cause):
        return f"{key}={match[1]}: the value {match[2].rstrip('.')}."
    if isinstance(error, OverrideParseException):
        cure = "write key=value or group=choice, and quote special characters"
        return f"Cannot read the override '{error.override}': {cure}."
    return " ".join(line.strip() for line in (text + "\n" + cause).strip().splitlines()[:3])


def unknown_key(key: str, model: type[ModelConfig] | None = None) -> str:
    """The message for a key that does not exist, with the nearest that do.

    Args:
        key: dotted, as typed.
        model: the class of the chosen model's configuration, where it is known.
    """
    for kind, node in MODEL_KINDS.items():
        if model is not None and key in _dotted(node, "model."):
            own = ", ".join(_dotted(model, "model."))
            return f"Unknown configuration key '{key}': it belongs to models of kind {kind}. This model has {own}."
    if key.startswith("model.params."):
        return f"'{key}' adds an argument to the model: write it as +{key}=..."
    pool = [*all_keys(), *GROUPS]
    section, _, leaf = key.rpartition(".")
    similar = difflib.get_close_matches(leaf, {name.rpartition(".")[2] for name in pool}, n=2)
    same_leaf = [name for name in pool if name.rpartition(".")[2] in similar]
    same_leaf.sort(key=lambda name: (name.rpartition(".")[0] != section, similar.index(name.rpartition(".")[2])))
    names = list(dict.fromkeys(same_leaf + difflib.get_close_matches(key, pool, n=2)))[:3]
    hint = f"Nearest: {', '.join(names)}." if names else f"Groups: {', '.join(GROUPS)}."
    return f"Unknown configuration key '{key}'. {hint} All keys: --cfg job."


def wrong_choice(key: str, value: object, choices: Iterable[str]) -> str:
    """The message for a value outside a closed set, with the nearest inside it."""
    choices = list(choices)
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    hint = f" Nearest: {near[0]}." if near else ""
    return f"{key}={value} is not a valid choice.{hint} Choices: {', '.join(choices)}."


def all_keys() -> list[str]:
    """Every dotted key of the tree, for all kinds of model."""
    keys = list(_dotted(Config, ""))
    for kind in MODEL_KINDS.values():
        keys += _dotted(kind, "model.")
    return sorted(set(keys))


def _dotted(node: type, prefix: str) -> Iterator[str]:
    hints = get_type_hints(node)
    for field in dataclasses.fields(node):
        yield prefix + field.name
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _dotted(hints[field.name], f"{prefix}{field.name}.")


def _unknown_choice(group: str, choice: str, available: list[str]) -> str:
    files = {path.stem for path in (config_dir() / group).glob("*.yaml")}
    choices = [name for name in available if name in files or name not in TORCHVISION_CLASSIFIERS]
    near = difflib.get_close_matches(choice, available, n=2, cutoff=0.5)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    more = ", and every other torchvision classifier by name" if group == "model" else ""
    return f"{group}={choice}: no such choice.{hint} Choices: {', '.join(choices)}{more}."


def _model_class(model: Any) -> type[ModelConfig]:
    kind = model.get("kind") if isinstance(model, dict) else None
    if kind not in MODEL_KINDS:
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
