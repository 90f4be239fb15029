"""The augmentation of a training batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from landuse.config.schema import AugmentConfig
from landuse.data.augment.colour import ColourJitter, erase
from landuse.data.augment.draws import Draws
from landuse.data.augment.geometry import transform


class Augmentation:
    """Geometry, colour with normalisation, then erasing; with everything off exactly :func:`normalise`."""

    def __init__(
        self, config: AugmentConfig, mean: Sequence[float], std: Sequence[float], device: torch.device
    ) -> None:
        self._config = config
        self._colour = ColourJitter(config, torch.tensor(mean, device=device), torch.tensor(std, device=device))

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment and normalise a batch.

        Args:
            images: uint8 (N, H, H, 3) on the device given at construction.
            generator: on the host; advanced by the same amount whatever the configuration.

        Returns:
            float32 (N, 3, h, h) in channels_last memory, h = ``config.size`` or H. Call outside of autocast.
        """
        assert images.dtype == torch.uint8 and images.shape[1] == images.shape[2], "expected square uint8 images"
        draws = Draws.draw(len(images), generator)
        inputs = self._colour(transform(images, self._config, draws), draws)
        if self._config.erasing:
            erase(inputs, self._config.erasing, draws)
        return inputs
