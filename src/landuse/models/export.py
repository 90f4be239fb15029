"""Exported models: a folder of weights (safetensors) and description (JSON) that opens without executing any of it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from landuse.config.schema import CustomModelConfig, ModelConfig
from landuse.errors import UserError
from landuse.files import replacing, write_json
from landuse.models.description import (
    DESCRIPTION_FILE,
    FORMAT,
    FORMAT_VERSION,
    WEIGHTS_FILE,
    ModelDescription,
    architecture_of,
    missing_weights,
    model_fingerprint,
    model_folder,
    parse_description,
    read_description,
)
from landuse.models.registry import build_model, check_output, construct
from landuse.models.weights import has_new_infinities

_MAX_TENSORS = 20_000  # the largest network of torchvision's has 2000
_HEADER_BYTES = 10_000_000  # of names and shapes, at most


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for prediction.

    Attributes:
        model: on the CPU, in evaluation mode; maps normalised images (N, 3, image_size, image_size) to logits
            (N, classes).
        classes: class names in the order of the logits.
        image_size: side of the square input in pixels.
        mean: subtracted from each of the channels R, G, B on the scale 0..1.
        std: what the difference is then divided by.
        info: the content of model.json.
    """

    model: nn.Module
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    info: dict[str, Any]


def save_model(
    folder: Path,
    model: nn.Module,
    model_config: ModelConfig,
    classes: Sequence[str],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    extra: Mapping[str, Any],
) -> None:
    """Write ``folder/model.safetensors`` and then ``folder/model.json``, each atomically.

    Args:
        folder: created where missing.
        model: bare, not wrapped for distributed training or compiled.
        model_config: what the model was built from; the path of its initial weights is not written.
        classes: names in the order of the logits.
        image_size: side of the square input in pixels.
        mean: of R, G and B on the scale 0..1.
        std: likewise.
        extra: further facts worth keeping, as JSON allows them.

    Raises:
        ValueError: a value that :func:`load_model` would refuse.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": architecture_of(model_config),
        "classes": list(classes),
        "image_size": image_size,
        "normalisation": {"mean": list(mean), "std": list(std), "scale": "0..1", "channels": "RGB"},
        "num_parameters": _num_parameters(model),
        "weights_sha256": "0" * 64,  # of the file that is yet to be written
        "extra": dict(extra),
    }
    parse_description(content)
    # Copies, because safetensors refuses tensors that share memory (tied weights) or are not contiguous
    # (channels_last).
    weights = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    with replacing(folder / WEIGHTS_FILE) as temporary:
        safetensors.torch.save_file(weights, temporary)
    write_json(folder / DESCRIPTION_FILE, content | {"weights_sha256": model_fingerprint(folder)})


def load_model(path: Path, custom: CustomModelConfig | None = None) -> LoadedModel:
    """Open an exported model; the caller's random state stays as it is.

    Args:
        path: a run folder, or its ``model`` folder.
        custom: the user's own configuration of a ``kind=custom`` model; parameters that it does not name are the
            described ones. The import path that the folder itself names is never followed, for the folder may come from
            a stranger.

    Raises:
        UserError: the folder is incomplete, damaged or contradicts itself, or needs ``custom``.
    """
    folder = model_folder(path)
    description = read_description(folder)
    config = _trusted_config(folder, description.config, custom)
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn in vain
        model = _build(folder, config, description)
    _copy_weights(folder, model, _read_weights(folder, description))
    return LoadedModel(
        model=model.eval(),
        classes=description.classes,
        image_size=description.image_size,
        mean=description.mean,
        std=description.std,
        info=description.info,
    )


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _trusted_config(folder: Path, described: ModelConfig, custom: CustomModelConfig | None) -> ModelConfig:
    if not isinstance(described, CustomModelConfig):
        return described
    if custom is None:
        raise UserError(
            f"{folder / DESCRIPTION_FILE} describes a model of the user's own class, and a class named there is not"
            f" imported. If you trust it, add: model=custom model.target={described.target}"
        )
    return replace(described, target=custom.target, params=described.params | custom.params)


def _build(folder: Path, config: ModelConfig, description: ModelDescription) -> nn.Module:
    """The described network; first one that takes no memory, whose size must be that of the weights."""
    num_classes, image_size = len(description.classes), description.image_size
    if isinstance(config, CustomModelConfig):
        model = build_model(config, num_classes, image_size)
        _require_size(folder, model, description)
        return model
    try:
        with _weightless():
            outline = construct(config, num_classes, image_size)
        with torch.device("meta"):
            check_output(outline, config, num_classes, image_size)
    except Exception as error:  # of odd arguments, each architecture makes errors of its own
        problem = str(error).partition("\n")[0].rstrip(".")
        raise UserError(f"{folder / DESCRIPTION_FILE}: no model can be built: {problem}. Export it again.") from error
    _require_size(folder, outline, description)
    return construct(config, num_classes, image_size)


@contextmanager
def _weightless() -> Iterator[None]:
    """Networks made here have shapes, but no values that would take memory; and they are of a sensible size."""
    count = 0

    def outline(_module: nn.Module, _name: str, tensor: Tensor | None) -> Any:
        nonlocal count
        count += 1
        if count > _MAX_TENSORS:  # some arguments of torchvision's say how often a block is repeated
            raise ValueError(f"the architecture has more than {_MAX_TENSORS:,} tensors")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(tensor.to("meta"), requires_grad=tensor.requires_grad)
        return tensor if tensor is None else tensor.to("meta")

    handles = [register_module_parameter_registration_hook(outline), register_module_buffer_registration_hook(outline)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _require_size(folder: Path, model: nn.Module, description: ModelDescription) -> None:
    if _num_parameters(model) != description.num_parameters:
        raise _contradiction(folder, f"num_parameters is not {_num_parameters(model)}, as the architecture has it")
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise missing_weights(folder)
    expected = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if file.stat().st_size > expected + max(expected, _HEADER_BYTES):
        raise _contradiction(folder, f"the weights have {file.stat().st_size:,} bytes instead of about {expected:,}")


def _read_weights(folder: Path, description: ModelDescription) -> dict[str, Tensor]:
    file = folder / WEIGHTS_FILE
    content = file.read_bytes()  # once, so that what is checked is what is used
    if hashlib.sha256(content).hexdigest() != description.weights_sha256:
        raise _contradiction(folder, "the sha256 of the weights is not the one described")
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise UserError(f"{file} is damaged ({error}). Export the model again, or copy its folder again.") from error


def _copy_weights(folder: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    if missing := sorted(own.keys() - weights.keys()):
        raise _contradiction(folder, f"the weights lack tensor {missing[0]} of the architecture")
    if unknown := sorted(weights.keys() - own.keys()):
        raise _contradiction(folder, f"the architecture has no tensor {unknown[0]}")
    for name, tensor in weights.items():
        if (tensor.shape, tensor.dtype) != (own[name].shape, own[name].dtype):
            raise _contradiction(
                folder,
                f"tensor {name} is {tensor.dtype} {list(tensor.shape)}, but the architecture has"
                f" {own[name].dtype} {list(own[name].shape)}",
            )
        if has_new_infinities(tensor, own[name]):
            raise _contradiction(folder, f"tensor {name} has values that are not finite")
        own[name].copy_(tensor)


def _contradiction(folder: Path, problem: str) -> UserError:
    return UserError(
        f"{folder}: {WEIGHTS_FILE} and {DESCRIPTION_FILE} do not make a valid model: {problem}. Export the model again,"
        " or copy its folder again."
    )
