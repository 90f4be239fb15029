"""The random numbers of one augmented batch."""

from typing import NamedTuple, Self

import torch
from torch import Tensor


class Draws(NamedTuple):
    """Uniform numbers in [0, 1), each field (N,) float64 on the host.

    Every field is drawn for every batch, used or not, and in this order: a part that is switched off changes neither
    what the other parts do nor where the generator stands afterwards. New fields belong at the end.
    """

    symmetry: Tensor
    crop_side: Tensor
    crop_top: Tensor
    crop_left: Tensor
    shift_down: Tensor
    shift_right: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    erase: Tensor
    erase_area: Tensor
    erase_aspect: Tensor
    erase_top: Tensor
    erase_left: Tensor

    @classmethod
    def draw(cls, num_images: int, generator: torch.Generator) -> Self:
        """Take the next ``num_images`` x (number of fields) numbers from a host generator."""
        table = torch.rand(len(cls._fields), num_images, generator=generator, dtype=torch.float64)
        return cls(*table.unbind())

    def of(self, rows: Tensor) -> Self:
        """Those of some images, whose rows in the batch are in (n,) int64."""
        return type(self)(*(field[rows] for field in self))


def between(low: float, high: float, uniform: Tensor) -> Tensor:
    """Map uniform numbers in [0, 1) to [low, high)."""
    return low + (high - low) * uniform


def up_to(largest: Tensor | int, uniform: Tensor) -> Tensor:
    """Map uniform numbers in [0, 1) to the integers 0..largest, each equally likely, as int64."""
    return (uniform * (largest + 1)).long()
