"""From a model configuration to a network with random weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from landuse.config.schema import CNNConfig, ModelConfig, SlimResNetConfig
from landuse.errors import UserError
from landuse.models.cnn import CNN
from landuse.models.custom import build_custom
from landuse.models.rules import architecture_problems
from landuse.models.slim_resnet import SlimResNet
from landuse.models.torchvision_models import build_torchvision


def build_model(config: ModelConfig, num_classes: int, image_size: int) -> nn.Module:
    """A network in training mode that maps normalised float images (N, 3, S, S) to logits (N, num_classes).

    Its random weights come from torch's global generator: seed it before. ``config.weights`` and
    ``config.freeze_backbone`` are applied afterwards, by :mod:`landuse.models.weights` and
    :mod:`landuse.models.head`.

    Raises:
        UserError: the configuration breaks a rule, the arguments do not fit the architecture, or the network does not
            take images of this size or does not give one logit per class.
    """
    model = construct(config, num_classes, image_size)
    check_output(model, config, num_classes, image_size)
    return model


def construct(config: ModelConfig, num_classes: int, image_size: int) -> nn.Module:
    """As :func:`build_model`, without passing images through."""
    if config.kind not in BUILDERS:
        raise UserError(f"model.kind={config.kind} is unknown: choose one of {', '.join(BUILDERS)}.")
    for problem in architecture_problems(config, image_size):
        raise UserError(problem)
    return BUILDERS[config.kind](config, num_classes, image_size)


def _build_cnn(config: CNNConfig, num_classes: int, image_size: int) -> nn.Module:
    return CNN(num_classes, config.width, config.depth, config.kernel_size, config.dropout)


def _build_slim_resnet(config: SlimResNetConfig, num_classes: int, image_size: int) -> nn.Module:
    return SlimResNet(num_classes, config.width, config.blocks)


BUILDERS: dict[str, Callable[[Any, int, int], nn.Module]] = {  # Any: each takes the configuration of its own kind
    "cnn": _build_cnn,
    "slim_resnet": _build_slim_resnet,
    "torchvision": build_torchvision,
    "custom": build_custom,
}


def check_output(model: nn.Module, config: ModelConfig, num_classes: int, image_size: int) -> None:
    """Pass two blank images through, in evaluation mode so that no batch-norm statistics change."""
    images = torch.zeros(2, 3, image_size, image_size)
    try:
        with torch.no_grad():
            logits = model.eval()(images)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"model={config.name} fails on images (2, 3, {image_size}, {image_size}): {type(error).__name__}: {error}."
            " Choose another data.image_size or another model."
        ) from error
    finally:
        model.train()
    obtained = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if obtained != (2, num_classes):
        raise UserError(
            f"model={config.name} must map images (2, 3, {image_size}, {image_size}) to logits (2, {num_classes}), but"
            f" gives {obtained}."
        )
