"""The reference for drift of a model that was just trained; an export makes its own, with its own arithmetic."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landuse.data.pack import Pack
from landuse.models.head import find_head
from landuse.monitoring.reference import ENOUGH, Reference, make_reference
from landuse.training.batches import Images
from landuse.training.device import Runtime
from landuse.training.inference import Predictor


def reference_of(model: nn.Module, pack: Pack, runtime: Runtime, batch_size: int) -> Reference:
    """What the images of the validation split, as many as tell enough, look like to a model.

    It draws no random numbers. The model, placed by ``runtime``, is left in evaluation mode.
    """
    whole = pack.split("val")  # any prefix is a balanced sample
    split = replace(whole, images=whole.images[:ENOUGH], labels=whole.labels[:ENOUGH], paths=whole.paths[:ENOUGH])
    predictor = Predictor(runtime, pack.mean, pack.std, batch_size)
    head = find_head(model, len(pack.classes))
    inputs: list[Tensor] = []

    def keep(_head: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(_pooled(arguments[0]))

    hook = model.get_submodule(head).register_forward_pre_hook(keep) if head is not None else None
    try:
        probabilities = predictor.probabilities(model, Images(split, runtime))
    finally:
        if hook is not None:
            hook.remove()
    features = torch.cat(inputs).float().cpu().numpy() if inputs else _logits(probabilities)
    return make_reference(split.images, probabilities, features)


def _pooled(features: Tensor) -> Tensor:
    """Maps (N, D, H, W) averaged over space; anything else as rows (N, D)."""
    return features.mean(dim=(2, 3)) if features.dim() == 4 else features.flatten(1)


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Of a model without a recognisable head, up to a constant."""
    return np.log(np.maximum(probabilities, 1e-12)).astype(np.float32)
