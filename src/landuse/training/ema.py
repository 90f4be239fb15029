"""Exponential moving average of the weights."""

import copy
from typing import Protocol

import torch
from torch import nn


class Averaged(Protocol):
    """The weights that are validated and exported."""

    model: nn.Module

    def update(self, step: int) -> None:
        """Take in the weights after optimiser step ``step`` (counted from 0 over the whole training)."""


class NoAverage:
    """The trained weights themselves."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def update(self, step: int) -> None:
        """Nothing to do."""


class WeightAverage:
    """A copy of the model whose weights and buffers follow the trained ones.

    The decay starts low, min(decay, (1 + step) / (10 + step)), so that the random start is soon forgotten; this is the
    schedule of tf.train.ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        own, live = self.model.state_dict(), model.state_dict()
        self._pairs = [(own[name], live[name]) for name in own]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        floats = [(own, live) for own, live in self._pairs if own.is_floating_point()]
        torch._foreach_lerp_([own for own, _ in floats], [live for _, live in floats], 1 - decay)
        for own, live in self._pairs:
            if not own.is_floating_point():
                own.copy_(live)  # counters of batch norm


def build_average(model: nn.Module, decay: float | None) -> Averaged:
    """A do-nothing average where ``decay`` is None."""
    return NoAverage(model) if decay is None else WeightAverage(model, decay)
