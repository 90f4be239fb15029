"""Initial weights from a file or from torchvision, with an account of what was loaded and what was not."""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from landuse.errors import UserError
from landuse.files import open_regular
from landuse.models.description import WEIGHTS_FILE, model_folder
from landuse.models.head import find_head
from landuse.models.rules import DEFAULT, no_such_weights
from landuse.models.torch_files import ForbiddenError, read_torch_file

logger = logging.getLogger(__name__)

StateDict = OrderedDict[str, Tensor]  # as load_state_dict takes it; torch keeps version numbers in its _metadata

_WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # left by DistributedDataParallel and torch.compile
_NESTED_UNDER = ("model", "state_dict")
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")  # in torchvision's files to this day
_POSITION_EMBEDDING = "encoder.pos_embedding"  # of torchvision's vision transformers
_MAX_LISTED = 8


@dataclass(frozen=True)
class WeightsReport:
    """What became of each tensor. ``str(report)`` is one readable message.

    Attributes:
        source: where the weights come from.
        loaded: tensors of the model that were filled from the source.
        head: tensors of the head whose shape differs (another number of classes), left as initialised; with both
            shapes.
        mismatched: other tensors whose shape differs, left as initialised; with both shapes.
        missing: tensors of the model that the source does not have, left as initialised.
        unexpected: tensors of the source that the model does not have.
    """

    source: str
    loaded: tuple[str, ...]
    head: tuple[str, ...]
    mismatched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def total(self) -> int:
        """Number of tensors that the model has."""
        return len(self.loaded) + len(self.head) + len(self.mismatched) + len(self.missing)

    @property
    def complete(self) -> bool:
        """Whether everything but the head was loaded."""
        return not (self.mismatched or self.missing)

    def __str__(self) -> str:
        parts = [f"{self.source}: loaded {len(self.loaded)} of {self.total} tensors."]
        for title, names in (
            ("Head of another size, stays as initialised", self.head),
            ("Of another shape, stay as initialised", self.mismatched),
            ("Not in the source, stay as initialised", self.missing),
            ("In the source, but not in the model", self.unexpected),
        ):
            if names:
                parts.append(f"{title}: {_listing(names)}.")
        return " ".join(parts)


def load_weights(
    model: nn.Module, source: str | Path, num_classes: int, torchvision_name: str | None = None
) -> WeightsReport:
    """Fill the model with every tensor of the source that has the same name and shape, and log the report.

    The head is left as initialised when the source has another number of classes. A vision transformer's position
    embeddings are interpolated to the model's image size.

    Args:
        model: changed in place.
        source: a ``.safetensors``, ``.pt`` or ``.pth`` file, a run folder, its ``model`` folder, or ``DEFAULT``.
        num_classes: number of the model's logits.
        torchvision_name: the classifier whose weights ``DEFAULT`` means.

    Raises:
        UserError: the source cannot be had or read, or has nothing that fits the model.
    """
    if str(source) == DEFAULT:
        if torchvision_name is None:
            raise UserError("model.weights=DEFAULT: only torchvision's models have such weights; give a file.")
        state, label = _download(torchvision_name), f"ImageNet weights of {torchvision_name}"
    else:
        file = _find_file(Path(source).expanduser())
        state, label = read_state_dict(file), str(file)
    report = _fill(model, _current_names(model, state), label, num_classes)
    logger.log(logging.INFO if report.complete else logging.WARNING, "%s", report)
    return report


def read_state_dict(file: Path) -> StateDict:
    """The tensors of a ``.safetensors``, ``.pt`` or ``.pth`` file, on the CPU; no code in it is ever executed.

    A pickled file may hold a state dict, or a dict with one under "model" or "state_dict".

    Raises:
        UserError: the file is of another type, damaged, or holds more than tensors and plain values.
    """
    try:
        if file.suffix == ".safetensors":
            open_regular(file).close()
            return OrderedDict(load_file(file))
        if file.suffix not in (".pt", ".pth"):
            raise UserError(f"{file}: weights are read from .safetensors, .pt and .pth files only.")
        content = read_torch_file(file)
    except ForbiddenError as error:
        raise UserError(
            f"{file} was not opened: {error}, and loading such a file could run code or take all memory. Give a file"
            " that torch.save(model.state_dict(), FILE) wrote, or a .safetensors file."
        ) from error
    except UserError:
        raise
    except Exception as error:  # of damaged bytes the readers make almost any error, from OSError to MemoryError
        raise _unreadable(file, error) from error
    for key in _NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, OrderedDict):  # keep torch's own, whose attribute _metadata holds version numbers
        content = OrderedDict(content) if isinstance(content, Mapping) else OrderedDict()
    for name in [name for name, value in content.items() if not (isinstance(value, Tensor) and isinstance(name, str))]:
        del content[name]
    if not content:
        raise UserError(f"{file} holds no state dict: save one by torch.save(model.state_dict(), FILE).")
    return content


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{file} cannot be read and may be truncated or damaged ({type(error).__name__}: {error}). Copy or download it"
        " again."
    )


def _find_file(path: Path) -> Path:
    if not path.exists():
        raise UserError(no_such_weights(path))
    return model_folder(path) / WEIGHTS_FILE if path.is_dir() else path


def _download(name: str) -> StateDict:
    """torchvision's weights, from its cache or its server."""
    from torchvision.models import get_model_weights  # here, because it takes seconds

    weights = get_model_weights(name).DEFAULT
    try:
        state: StateDict = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # no network, a full disk, or a damaged file in the cache
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise UserError(
            f"The weights of {name} could not be had from {weights.url} ({error}): put that file at {file}, or anywhere"
            " and set model.weights=PATH."
        ) from error
    return state


def _current_names(model: nn.Module, state: StateDict) -> StateDict:
    """The state with the names of the bare, present-day model."""
    own_names = model.state_dict().keys()
    for _ in _WRAPPER_PREFIXES:  # twice, for they may be nested either way
        for prefix in _WRAPPER_PREFIXES:
            if not any(name.startswith(prefix) for name in own_names):
                consume_prefix_in_state_dict_if_present(state, prefix)
    for name in [name for name in state if _OLD_DENSENET_NAME.search(name)]:
        state[_OLD_DENSENET_NAME.sub(r"\1", name)] = state.pop(name)
    if not hasattr(state, "_metadata"):
        # Without version numbers torch takes a state for one of an older format, which some models refuse.
        state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    return state


def _fill(model: nn.Module, state: StateDict, label: str, num_classes: int) -> WeightsReport:
    own: dict[str, Tensor] = model.state_dict()
    _interpolate_positions(model, own, state)
    _require_values(own, state, label)
    misshaped = {name: state.pop(name) for name in own if name in state and state[name].shape != own[name].shape}
    try:
        # Not a plain copy: some modules of torchvision translate old names in their loading hooks.
        outcome = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{label} does not fit the model: {error}") from error
    left_out = {*outcome.missing_keys, *misshaped}
    if left_out.issuperset(name for name, _ in model.named_parameters()):
        raise UserError(
            f"{label}: none of its tensors fits the model. It has {_listing([*state, *misshaped], 3)}; the model has"
            f" {_listing(own, 3)}. Give the weights of the same architecture, or model.weights=null."
        )
    head_name = find_head(model, num_classes)
    head = {name for name in misshaped if name.rpartition(".")[0] == head_name}
    shapes = {
        name: f"{name} ({_shape(tensor)} in the source, {_shape(own[name])} in the model)"
        for name, tensor in misshaped.items()
    }
    return WeightsReport(
        source=label,
        loaded=tuple(name for name in own if name not in left_out),
        head=tuple(text for name, text in shapes.items() if name in head),
        mismatched=tuple(text for name, text in shapes.items() if name not in head),
        missing=tuple(name for name in outcome.missing_keys if name not in misshaped),
        unexpected=tuple(outcome.unexpected_keys),
    )


def _require_values(own: Mapping[str, Tensor], state: StateDict, label: str) -> None:
    """Refuse what torch would convert without a word (quantised or complex weights), and what no training survives."""
    for name, tensor in state.items():
        if name not in own:
            continue
        if tensor.dtype != own[name].dtype and not (tensor.is_floating_point() and own[name].is_floating_point()):
            raise UserError(
                f"{label}: {name} holds {tensor.dtype} where the model has {own[name].dtype}. Give a file of plain"
                " floating-point weights of the same architecture."
            )
        if tensor.shape == own[name].shape and has_new_infinities(tensor, own[name]):
            raise UserError(
                f"{label}: {name} has values that are not finite, from which no training could go on. Give another"
                " file; this one is damaged, or of a training that diverged."
            )


def has_new_infinities(tensor: Tensor, own: Tensor) -> bool:
    """Whether values are NaN or infinite that are finite in the model as built; a mask may have infinities."""
    return tensor.is_floating_point() and bool((~tensor.to(own.dtype).isfinite() & own.isfinite()).any())


def _interpolate_positions(model: nn.Module, own: Mapping[str, Tensor], state: StateDict) -> None:
    """Give a vision transformer's position embeddings, (1, 1 + patches, width), the model's number of patches."""
    if _POSITION_EMBEDDING not in state or _POSITION_EMBEDDING not in own:
        return
    from torchvision.models import VisionTransformer, vision_transformer

    given, wanted = state[_POSITION_EMBEDDING], own[_POSITION_EMBEDDING].shape
    is_square = given.ndim == 3 and given.shape[1] > 1 and isqrt(given.shape[1] - 1) ** 2 == given.shape[1] - 1
    fits = is_square and given.shape[0] == 1 and given.shape[2:] == wanted[2:] and given.is_floating_point()
    if isinstance(model, VisionTransformer) and given.shape != wanted and fits:
        state[_POSITION_EMBEDDING] = given.float()
        vision_transformer.interpolate_embeddings(model.image_size, model.patch_size, state)  # in place


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape[:8])) + ("..." if tensor.ndim > 8 else "") or "scalar"


def _listing(names: Iterable[str], limit: int = _MAX_LISTED) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
