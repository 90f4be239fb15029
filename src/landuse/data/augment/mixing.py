"""Mixup and CutMix."""

import random
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from landuse.config.schema import AugmentConfig


@dataclass(frozen=True)
class Mix:
    """How a batch of N is mixed.

    Attributes:
        partners: (N,) int64 on the host, the image that each is mixed with.
        weight: of the image itself; the rest is its partner's.
        centre: of CutMix's box, as fractions of height and width; None: mixup.
    """

    partners: Tensor
    weight: float
    centre: tuple[float, float] | None

    def __call__(self, inputs: Tensor, pool: Tensor, partners: Tensor) -> tuple[Tensor, float]:
        """Mix images.

        Args:
            inputs: normalised (n, 3, S, S); not modified, and their memory format is kept.
            pool: (m, 3, S, S), where their partners are; may be ``inputs`` itself.
            partners: (n,) int64 on the device, rows of ``pool``.

        Returns:
            The mixed images, and the share of the pixels that is the image's own.
        """
        if self.centre is None:
            return blend(inputs, pool, partners, self.weight), self.weight
        return paste(inputs, pool, partners, self.weight, self.centre)


class Mixing:
    """Mix each image with another of its batch, one ratio per batch.

    Mixup (Zhang et al. 2018, arXiv:1710.09412) blends the two; CutMix (Yun et al. 2019, arXiv:1905.04899) pastes a box
    of the other image. With both alphas set each mixed batch takes one of them with equal chance.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self._mixup, self._cutmix = config.mixup, config.cutmix
        self._probability = config.mix_probability if config.mixup or config.cutmix else 0.0
        self._until = config.mix_epochs

    def draw(self, num_images: int, generator: torch.Generator, progress: float) -> Mix | None:
        """How to mix the next batch; None where it is not mixed.

        Args:
            generator: on the host; advanced by the same amount whatever the configuration.
            progress: share of the training that is done, 0..1.
        """
        # A generator of its own, because sampling a Beta distribution takes a varying count of numbers.
        host = random.Random(int(torch.randint(2**63 - 1, (), generator=generator)))
        partners = torch.randperm(num_images, generator=generator)
        mixed, choice = host.random() < self._probability, host.random()
        if not mixed or progress >= self._until:
            return None
        if self._mixup and (choice < 0.5 or not self._cutmix):
            return Mix(partners, host.betavariate(self._mixup, self._mixup), None)
        return Mix(partners, host.betavariate(self._cutmix, self._cutmix), (host.random(), host.random()))


def blend(inputs: Tensor, pool: Tensor, partners: Tensor, weight: float) -> Tensor:
    """``weight`` of each image of (n, 3, S, S) plus the rest of its partner, whose row of the pool is in (n,)."""
    return torch.lerp(pool[partners], inputs, weight)  # indexing, unlike index_select, keeps channels_last


def paste(
    inputs: Tensor, pool: Tensor, partners: Tensor, weight: float, centre: tuple[float, float]
) -> tuple[Tensor, float]:
    """Paste a box of the partner, whose row of the pool is in (n,), into each image of (n, 3, S, S).

    The box covers 1 - weight of the area and is then clipped at the border, so the share of the image that survives is
    returned with the result. The centre is given as fractions of the height and width.
    """
    size = inputs.shape[-1]
    half = size * sqrt(1 - weight) / 2
    top, left = (max(0, round(size * middle - half)) for middle in centre)
    bottom, right = (min(size, round(size * middle + half)) for middle in centre)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = pool[partners, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / size**2
