"""The augmentation of a training batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from landuse.config.schema import AugmentConfig
from landuse.data.augment.colour import ColourJitter, erase
from landuse.data.augment.draws import Draws
from landuse.data.augment.geometry import transform

GROWTH_PX = 16  # each new size costs libraries a little preparation, so there are few


class Augmentation:
    """Geometry, colour with normalisation, then erasing; with everything off exactly :func:`normalise`."""

    def __init__(
        self, config: AugmentConfig, mean: Sequence[float], std: Sequence[float], device: torch.device
    ) -> None:
        self._config = config
        self._colour = ColourJitter(config, torch.tensor(mean, device=device), torch.tensor(std, device=device))

    def __call__(self, images: Tensor, draws: Draws, progress: float = 1.0) -> Tensor:
        """Augment and normalise a batch.

        Args:
            images: uint8 (N, H, H, 3) on the device given at construction.
            draws: a random number for each image and use.
            progress: share of the training that is done, on which the size of growing images depends.

        Returns:
            float32 (N, 3, h, h) in channels_last memory, h = :func:`size_at`. Call outside of autocast.
        """
        assert images.dtype == torch.uint8 and images.shape[1] == images.shape[2], "expected square uint8 images"
        size = size_at(self._config, images.shape[1], progress)
        inputs = self._colour(transform(images, self._config, draws, size), draws)
        if self._config.erasing:
            erase(inputs, self._config.erasing, draws)
        return inputs


def size_at(config: AugmentConfig, side: int, progress: float) -> int:
    """Pixels of the training images when this share of the training is done; ``side``: of the packed images.

    From ``start_size`` up to ``size`` in steps of ``GROWTH_PX``, each as long as the others.
    """
    final = config.size or side
    if config.start_size is None or progress >= config.grow_epochs:
        return final
    num_steps = max(1, round((final - config.start_size) / GROWTH_PX))
    return config.start_size + int(num_steps * progress / config.grow_epochs) * (final - config.start_size) // num_steps


def image_sizes(config: AugmentConfig, side: int) -> set[int]:
    """Pixels of the validation images (``side``), of the training images, and of these at the start."""
    return {side} | {size for size in (config.size, config.start_size) if size is not None}
