"""The description ``model.json`` of an exported model, read strictly (no torch, for who serves the model without it).

An exported model may come from a stranger: nothing in its folder is unpickled or imported, and every value is checked
before it is used.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from landuse.config.ground import read_ground
from landuse.config.schema import MODEL_KINDS, ModelConfig
from landuse.errors import UserError
from landuse.files import read_text, require_shallow
from landuse.models.rules import architecture_problems

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
FORMAT = "landuse-model"
FORMAT_VERSION = 1

_IMAGE_SIZES = range(8, 4097)
_LARGEST_DESCRIPTION = 10_000_000  # bytes
_NUM_CLASSES = range(2, 10_001)
_LARGEST_STATISTIC = 1e6  # of mean and std, which lie near 0..1; also keeps out NaN and infinity
_SMALLEST_STD = 1e-6  # smaller ones make every input infinite
_NOT_STORED = ("weights", "freeze_backbone")  # say how the model was trained, and may name a private path
_KEYS = {
    "format",
    "format_version",
    "architecture",
    "classes",
    "image_size",
    "normalisation",
    "num_parameters",
    "weights_sha256",
    "extra",
}


@dataclass(frozen=True)
class ModelDescription:
    """A checked ``model.json``.

    Attributes:
        config: the architecture; of ``kind=custom``, to be shown but never imported.
        classes: class names in the order of the logits.
        image_size: side of the square input in pixels.
        mean: subtracted from each of the channels R, G, B on the scale 0..1.
        std: what the difference is then divided by.
        num_parameters: number of values in all parameters.
        weights_sha256: of the weights file, hexadecimal.
        info: the whole content as it stands in the file.
    """

    config: ModelConfig
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_parameters: int
    weights_sha256: str
    info: dict[str, Any]


def model_folder(path: Path) -> Path:
    """The folder with ``model.json``: ``path`` itself, or ``path/model`` where ``path`` is a run folder.

    Raises:
        UserError: neither holds one.
    """
    for folder in (path, path / "model"):
        if (folder / DESCRIPTION_FILE).is_file():
            return folder
    raise UserError(
        f"{path} holds no finished model: neither it nor its folder model/ has a {DESCRIPTION_FILE}. Give a run folder"
        " of a training that has ended, or its model/ folder."
    )


def model_fingerprint(folder: Path) -> str:
    """SHA-256 of the weights file of an exported model's folder, hexadecimal.

    Raises:
        UserError: there is no weights file.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        raise missing_weights(folder)
    with (folder / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing_weights(folder: Path) -> UserError:
    """The error for an exported model's folder without weights."""
    return UserError(f"{folder} has no {WEIGHTS_FILE}: copy the whole folder, or export the model again.")


def architecture_of(config: ModelConfig) -> dict[str, Any]:
    """What ``model.json`` says about the architecture: all keys of the configuration that shape the network."""
    return {key: value for key, value in dataclasses.asdict(config).items() if key not in _NOT_STORED}


def read_description(folder: Path) -> ModelDescription:
    """Read and check ``folder/model.json``.

    Raises:
        UserError: it is missing, is no JSON or breaks a rule; the message names the file and the first such rule.
    """
    file = folder / DESCRIPTION_FILE
    try:
        return parse_description(_parse_json(read_text(file, _LARGEST_DESCRIPTION)))
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file. Give the model/ folder of a run.") from error
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors are ValueErrors, too
        raise UserError(f"{file}: {error}. Export the model again, or copy its folder again.") from error


def _parse_json(text: str) -> Any:
    content = json.loads(text, object_pairs_hook=_unique)
    require_shallow(content)
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that occurs twice, one program would take the first value and another the last."""
    content = dict(pairs)
    _require(len(content) == len(pairs), "a key occurs twice")
    return content


def parse_description(content: Any) -> ModelDescription:
    """Check the content of a ``model.json``.

    Raises:
        ValueError: the first rule that it breaks, as a sentence without a full stop.
    """
    _require(isinstance(content, dict) and content.get("format") == FORMAT, f"this is not the format '{FORMAT}'")
    version = content.get("format_version")
    _require(
        type(version) is int and version == FORMAT_VERSION,
        f"format_version is {version!r}, but this program reads {FORMAT_VERSION}",
    )
    _require_keys("model.json", content, _KEYS)
    image_size = content["image_size"]
    _require(
        type(image_size) is int and image_size in _IMAGE_SIZES,
        f"image_size must be an integer from {_IMAGE_SIZES[0]} to {_IMAGE_SIZES[-1]}, not {image_size!r}",
    )
    num_parameters, sha256 = content["num_parameters"], content["weights_sha256"]
    _require(type(num_parameters) is int and num_parameters > 0, "num_parameters must be a positive integer")
    _require(
        isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) is not None,
        "weights_sha256 must be 64 hexadecimal digits",
    )
    _require(isinstance(content["extra"], dict), "extra must be an object")
    read_ground(content["extra"])  # the only keys of it that decide anything
    mean, std = _normalisation(content["normalisation"])
    return ModelDescription(
        config=_architecture(content["architecture"], image_size),
        classes=_classes(content["classes"]),
        image_size=image_size,
        mean=mean,
        std=std,
        num_parameters=num_parameters,
        weights_sha256=sha256,
        info=content,
    )


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _require_keys(where: str, content: Any, keys: set[str]) -> None:
    _require(isinstance(content, dict), f"{where} must be an object")
    missing, unknown = keys - content.keys(), content.keys() - keys
    _require(not missing, f"{where} lacks {', '.join(sorted(missing))}")
    _require(not unknown, f"{where} has the unknown key {', '.join(sorted(unknown))}")


def _classes(classes: Any) -> tuple[str, ...]:
    _require(
        isinstance(classes, list) and len(classes) in _NUM_CLASSES,
        f"classes must be a list of {_NUM_CLASSES[0]} to {_NUM_CLASSES[-1]} names",
    )
    _require(all(isinstance(name, str) and name.strip() for name in classes), "every class needs a name")
    _require(len(set(classes)) == len(classes), "two classes have the same name")
    return tuple(classes)


def _normalisation(content: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    _require_keys("normalisation", content, {"mean", "std", "scale", "channels"})
    _require(content["scale"] == "0..1", "normalisation.scale must be 0..1")
    _require(content["channels"] == "RGB", "normalisation.channels must be RGB")
    mean, std = (_statistic(name, content[name]) for name in ("mean", "std"))
    _require(min(std) >= _SMALLEST_STD, f"normalisation.std must be positive, not {list(std)}")
    return mean, std


def _statistic(name: str, values: Any) -> tuple[float, float, float]:
    numbers = isinstance(values, list) and len(values) == 3 and all(type(value) in (int, float) for value in values)
    _require(
        numbers and all(abs(value) <= _LARGEST_STATISTIC for value in values),
        f"normalisation.{name} must be three finite numbers, not {values!r}",
    )
    red, green, blue = map(float, values)
    return red, green, blue


def _architecture(content: Any, image_size: int) -> ModelConfig:
    kind = str(content.get("kind")) if isinstance(content, dict) else ""
    _require(kind in MODEL_KINDS, f"architecture.kind must be one of {', '.join(MODEL_KINDS)}, not {kind!r}")
    config_class = MODEL_KINDS[kind]
    hints = {name: hint for name, hint in get_type_hints(config_class).items() if name not in _NOT_STORED}
    _require_keys("architecture", content, set(hints))
    for name, hint in hints.items():
        _require(_has_type(content[name], hint), f"architecture.{name} must not be {content[name]!r}")
    config = config_class(**content)
    for problem in architecture_problems(config, image_size):
        raise ValueError(problem.rstrip("."))
    return config


def _has_type(value: Any, hint: Any) -> bool:
    if hint is float:
        return type(value) in (int, float)
    if hint in (int, str):
        return type(value) is hint
    if hint == dict[str, Any]:
        return isinstance(value, dict)
    if hint == list[int]:
        return isinstance(value, list) and all(type(item) is int for item in value)
    return value in get_args(hint) or type(value) in get_args(hint)  # a Literal's values, a union's types
