"""Mixup and CutMix."""

import random
from math import sqrt

import torch
from torch import Tensor

from landuse.config.schema import AugmentConfig


class Mixing:
    """Mix each image with another of its batch, one ratio per batch.

    Mixup (Zhang et al. 2018, arXiv:1710.09412) blends the two; CutMix (Yun et al. 2019, arXiv:1905.04899) pastes a box
    of the other image. With both alphas set each mixed batch takes one of them with equal chance. With neither, or in
    a batch that is not mixed, the inputs come back as they are with a weight of one, so the caller needs no branch.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self._mixup, self._cutmix = config.mixup, config.cutmix
        self._probability = config.mix_probability if config.mixup or config.cutmix else 0.0
        self._until = config.mix_epochs

    def __call__(
        self, inputs: Tensor, labels: Tensor, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Mix a batch.

        Args:
            inputs: normalised (N, 3, S, S); not modified, and their memory format is kept.
            labels: (N,).
            generator: on the host; advanced by the same amount whatever the configuration.
            progress: share of the training that is done, 0..1.

        Returns:
            The inputs, the labels of both partners, and the first one's weight w, the share of its pixels: the loss
            is ``w * loss(labels_a) + (1 - w) * loss(labels_b)``.
        """
        # A generator of its own, because sampling a Beta distribution takes a varying count of numbers.
        host = random.Random(int(torch.randint(2**63 - 1, (), generator=generator)))
        permutation = torch.randperm(len(inputs), generator=generator)
        mixed, choice = host.random() < self._probability, host.random()
        if not mixed or progress >= self._until:
            return inputs, labels, labels, 1.0

        partners = permutation.to(inputs.device, non_blocking=True)
        if self._mixup and (choice < 0.5 or not self._cutmix):
            weight = host.betavariate(self._mixup, self._mixup)
            inputs = blend(inputs, partners, weight)
        else:
            weight = host.betavariate(self._cutmix, self._cutmix)
            inputs, weight = paste(inputs, partners, weight, (host.random(), host.random()))
        return inputs, labels, labels[partners], weight


def blend(inputs: Tensor, partners: Tensor, weight: float) -> Tensor:
    """``weight`` of each image of (N, 3, S, S) plus the rest of its partner, whose index is in (N,)."""
    return torch.lerp(inputs[partners], inputs, weight)  # indexing, unlike index_select, keeps channels_last


def paste(inputs: Tensor, partners: Tensor, weight: float, centre: tuple[float, float]) -> tuple[Tensor, float]:
    """Paste a box of the partner into each image of (N, 3, S, S).

    The box covers 1 - weight of the area and is then clipped at the border, so the share of the image that survives is
    returned with the result. The centre is given as fractions of the height and width.
    """
    size = inputs.shape[-1]
    half = size * sqrt(1 - weight) / 2
    top, left = (max(0, round(size * middle - half)) for middle in centre)
    bottom, right = (min(size, round(size * middle + half)) for middle in centre)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = inputs[partners, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / size**2
