"""The reference for drift of a model that was just trained; an export makes its own, with its own arithmetic."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landuse.data.pack import Pack
from landuse.models.head import features_of, find_head
from landuse.monitoring.reference import ENOUGH, Reference, make_reference
from landuse.training.batches import Images
from landuse.training.device import Runtime
from landuse.training.inference import Predictor

log = logging.getLogger(__name__)


def reference_of(model: nn.Module, pack: Pack, runtime: Runtime, batch_size: int) -> Reference | None:
    """What the images of the validation split, as many as tell enough, look like to a model.

    Its features are those of :func:`landuse.models.head.features_of`. It draws no random numbers. The model, placed by
    ``runtime``, is left in evaluation mode.

    Returns:
        None, with a warning, where the model answers with what are no numbers.
    """
    whole = pack.split("val")  # any prefix is a balanced sample
    split = replace(whole, images=whole.images[:ENOUGH], labels=whole.labels[:ENOUGH], paths=whole.paths[:ENOUGH])
    predictor = Predictor(runtime, pack.mean, pack.std, batch_size)
    given: list[object] = []
    of_head: list[Tensor] = []
    of_answer: list[Tensor] = []

    def look(_head: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given[:] = [*arguments, *named.values()][:1]

    def keep(_model: nn.Module, _arguments: tuple[Any, ...], logits: Tensor) -> None:
        of_head.append(features_of(given.pop() if given else None, logits))
        of_answer.append(features_of(None, logits))

    head = find_head(model, len(pack.classes))
    hooks = [model.register_forward_hook(keep)]
    if head is not None:
        hooks.append(model.get_submodule(head).register_forward_pre_hook(look, with_kwargs=True))
    try:
        probabilities = predictor.probabilities(model, Images(split, runtime))
    finally:
        for hook in hooks:
            hook.remove()
    for parts in (of_head, of_answer):
        if len({part.shape[1] for part in parts}) == 1:  # else the head is given N rows by chance, in some batches
            features = torch.cat(parts).cpu().numpy()
            if np.isfinite(features).all() and np.isfinite(probabilities).all():
                return make_reference(split.images, probabilities, features)
    log.warning("No reference for drift was written: the model answers with what are no numbers for some images.")
    return None
