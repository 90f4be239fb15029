"""Class probabilities for a whole split: the one function behind validation, evaluation and test-time averaging."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landuse.data.augment import normalise
from landuse.training.batches import Images, in_order
from landuse.training.device import Runtime


class Predictor:
    """Runs a model over packed images without augmentation."""

    def __init__(
        self, runtime: Runtime, mean: Sequence[float], std: Sequence[float], batch_size: int, symmetries: bool = False
    ) -> None:
        """
        Args:
            mean, std: per channel on the 0..1 scale, as the model was trained with.
            symmetries: average the probabilities over the eight symmetries of the square.
        """
        self._runtime = runtime
        self._mean = torch.tensor(mean, dtype=torch.float32, device=runtime.device)
        self._std = torch.tensor(std, dtype=torch.float32, device=runtime.device)
        self._batch_size = batch_size
        self._views = range(8) if symmetries else range(1)

    @torch.inference_mode()
    def probabilities(self, model: nn.Module, images: Images, limit: int | None = None) -> NDArray[np.float64]:
        """Probabilities (N, C) float64, rows in the split's order; ``limit`` stops after so many batches.

        The model is put in evaluation mode. One synchronisation of host and device, at the end.
        """
        model.eval()
        parts = [
            self._mean_over_views(model, images.gather(indices)[0])
            for indices in in_order(images.num_images, self._batch_size, limit)
        ]
        return torch.cat(parts).cpu().numpy().astype(np.float64)

    def _mean_over_views(self, model: nn.Module, pixels: Tensor) -> Tensor:
        inputs = normalise(pixels, self._mean, self._std)
        total = torch.zeros((), device=inputs.device)
        for view in self._views:
            with self._runtime.autocast():
                logits = model(symmetry(inputs, view))
            total = total + logits.float().softmax(dim=1)
        return total / len(self._views)


def symmetry(inputs: Tensor, number: int) -> Tensor:
    """One of the eight symmetries of the square of (N, 3, S, S): ``number % 4`` quarter turns, mirrored from 4 on."""
    if number >= 4:
        inputs = inputs.flip(3)
    return inputs.rot90(number % 4, (2, 3)).contiguous(memory_format=torch.channels_last) if number else inputs
