"""From errors of Hydra and OmegaConf, and from wrong keys and values, to one or two sentences: cause and cure."""

import dataclasses
import difflib
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from hydra.errors import OverrideParseException

from landuse.config.folders import config_dir
from landuse.config.schema import MODEL_KINDS, Config, ModelConfig
from landuse.errors import UserError
from landuse.models.names import TORCHVISION_CLASSIFIERS

GROUPS = ("model", "data", "augment", "trainer", "hardware", "tracking", "experiment", "debug")
SWEEPER_KEYS = (
    "params", "objective", "n_trials", "workers", "n_jobs", "max_failures", "study_name", "storage", "dry_run",
)  # fmt: skip
FORMS = {
    bool: "true or false", int: "an integer", float: "a number", str: "text", list: "a list, written [a,b]",
    dict: "a mapping, written {a:1}",
}  # fmt: skip
# Launchers of Hydra -> the extra that they come with.
LAUNCHERS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}


def explain(error: Exception) -> str:
    """One or two sentences for an error of Hydra or OmegaConf: what was typed, why it is wrong, what would be right."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    text = f"{error}\n{error.__cause__ or ''}"
    key = match[1] if (match := re.search(r"full_key: (\S+)", text)) else ""
    recipe = match[1] if (match := re.search(r"In '(\w+/[^']+)'", text)) else None
    return _known(text, key, recipe) or " ".join(line.strip() for line in text.strip().splitlines()[:3])


def _known(text: str, key: str, recipe: str | None) -> str | None:
    """The message for the errors that one meets, None for the rest.

    Args:
        text: of the error and its cause.
        key: that it is about, where it says so.
        recipe: the YAML file of a group, such as experiment/mine, where the error lies in one.
    """
    where = f"{recipe}.yaml: " if recipe else ""
    is_misplaced = (key in (*GROUPS, "sweeps") and key not in _types()) or "@sweeps" in text
    if recipe and is_misplaced:
        return f"{where}its first line must be '# @package _global_', so that its keys mean those of the whole tree."
    if match := re.search(r"Could not override '([^']+)'|Key '[^']+' (?:is )?not in", text):
        owner = re.search(r"not in '(\w+)'", text)
        models = {kind.__name__: kind for kind in MODEL_KINDS.values()}
        return where + unknown_key(match[1] or key, models.get(owner[1]) if owner else None)
    if match := re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text):
        return _unknown_choice(match[1], match[2], re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE))
    if match := re.search(r"UserError raised while resolving interpolation: (.*)", text):
        return where + match[1]
    if match := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"{where}${{{match[1]}}} refers to a key that does not exist: correct it, or write the value itself."
    if match := re.search(r"Ambiguous value for argument '(input)=(.*)'", text):
        return (
            f"input={match[2]}: a name with a comma is quoted twice, \"input='{match[2]}'\"; several files are a "
            "folder, a pattern, or a list on stdin (input=-)."
        )
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", text):
        return f"{match[1]}={match[2]}: several values need --multirun; one list is written {match[1]}=[{match[2]}]."
    typed = re.search(r"Value '(.*?)' (?:of type|is not)", text) or re.search(r"override [^~\s]\S*?=(.*)", text)
    if match := re.search(r"Invalid value '?(.*?)'?, expected one of \[(.*?)\]", text):
        return where + wrong_choice(key, match[1], re.findall(r"'([^']*)'", match[2]))
    if key.startswith("hydra.") and (match := re.search(r"Value '(.*?)' .*(Integer|Float|bool)\b", text)):
        kind = {"Integer": "an integer", "Float": "a number", "bool": "true or false"}[match[2]]
        return f"{key}={match[1]}: must be {kind}."
    if "delet" in text:  # ~key: Hydra's own words are good
        return None
    if form := _form(_types().get(re.sub(r"\[\d+\]$", "", key)), is_item=key.endswith("]")):
        return f"{where}{key}={typed[1]}: must be {form}." if typed else f"{where}{key} must be {form}."
    return None


def _unreadable(override: str) -> str:
    """For an override that Hydra's grammar does not take."""
    key, equals, value = override.partition("=")
    if not (key and equals):
        return f"Cannot read the override '{override}': write key=value or group=choice."
    if value.startswith("~"):
        return f"Cannot read the override '{override}': write $HOME instead of ~."
    cure = f"""write key=value or group=choice, and quote special characters twice, such as "{key}='{value}'"."""
    return f"Cannot read the override '{override}': {cure}"


def wrong_group_value(arguments: Iterable[str]) -> str | None:
    """The message for a ``group=value`` whose value is no name (null, a number), of which Hydra says nothing useful."""
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        if equals and not key:
            return _unreadable(argument)
        if equals and key.startswith("hydra/") and not _is_name(value):
            return f"{key}={value}: give the name of a choice, such as none."
        if equals and key in (*GROUPS, "sweeps") and not _is_name(value):
            return wrong_choice(key, value, sorted(path.stem for path in (config_dir() / key).glob("*.yaml")))
    return None


def _is_name(value: str) -> bool:
    try:
        return isinstance(yaml.safe_load(value), str | list)
    except yaml.YAMLError:
        return True  # refused elsewhere


def _types() -> dict[str, Any]:
    """The type of every dotted key, for all kinds of model."""
    found = dict(_hints(Config, ""))
    for kind in MODEL_KINDS.values():
        found |= _hints(kind, "model.")
    return found


def _hints(node: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(node).items():
        yield prefix + name, hint
        if dataclasses.is_dataclass(hint):
            yield from _hints(hint, f"{prefix}{name}.")  # type: ignore[arg-type]


def _form(hint: Any, is_item: bool = False) -> str | None:
    """A type in words, such as "an integer, or null"; None for no type."""
    if hint is None:
        return None
    if is_item:
        return _form(get_args(hint)[0]) if get_args(hint) else None
    if get_origin(hint) in (types.UnionType, Union):
        inner = next(argument for argument in get_args(hint) if argument is not type(None))
        return f"{_form(inner)}, or null"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if dataclasses.is_dataclass(hint):
        return "a group of keys, each of which is given by its own name"
    return FORMS.get(get_origin(hint) or hint)


def unknown_key(key: str, model: type[ModelConfig] | None = None) -> str:
    """The message for a key that does not exist, with the nearest that do.

    Args:
        key: dotted, as typed.
        model: the class of the chosen model's configuration, where it is known.
    """
    kinds = [kind for kind, node in MODEL_KINDS.items() if key in _dotted(node, "model.")]
    if kinds and (model is None or key not in _dotted(model, "model.")):
        own = f"This model has {', '.join(_dotted(model, 'model.'))}." if model else "Choose one with model=NAME."
        return f"Unknown configuration key '{key}': it belongs to models of kind {' and '.join(kinds)}. {own}"
    if key.startswith("model.params."):
        return f"'{key}' adds an argument to the model: write it as +{key}=..."
    if key.startswith(("hydra.sweeper.sampler.", "hydra.sweeper.pruner.")):
        group = "/".join(key.split(".")[:3])
        return f"Unknown configuration key '{key}': the chosen {group} has no such key. Take a recipe without it."
    if key.startswith("hydra.sweeper."):
        return (
            f"Unknown configuration key '{key}': hydra/sweeper=landuse, which a recipe must choose, has "
            f"{', '.join(SWEEPER_KEYS)}."
        )
    pool = [name for name in (*all_keys(), *GROUPS, *(f"hydra.sweeper.{leaf}" for leaf in SWEEPER_KEYS)) if name != key]
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
    return sorted(_types())


def _dotted(node: type, prefix: str) -> list[str]:
    return [key for key, _ in _hints(node, prefix)]


def _unknown_choice(group: str, choice: str, available: list[str]) -> str:
    files = {path.stem for path in (config_dir() / group).glob("*.yaml")}
    available = available or sorted(files)
    choices = [name for name in available if name in files or name not in TORCHVISION_CLASSIFIERS]
    near = difflib.get_close_matches(choice, available, n=2, cutoff=0.5)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    more = ", and every other torchvision classifier by name" if group == "model" else ""
    if group == "hydra/launcher" and choice in LAUNCHERS:
        return f"hydra/launcher={choice} needs more packages: pip install 'landuse[{LAUNCHERS[choice]}]'."
    return f"{group}={choice}: no such choice.{hint} Choices: {', '.join(choices)}{more}."
