"""Class probabilities for a whole split: the one function behind validation, evaluation and test-time averaging."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landuse.data.augment import normalise
from landuse.training.batches import Images, in_order
from landuse.training.device import Runtime
from landuse.training.group import ALONE, Group


class Predictor:
    """Runs a model over packed images without augmentation."""

    def __init__(
        self, runtime: Runtime, mean: Sequence[float], std: Sequence[float], batch_size: int, symmetries: bool = False,
        group: Group = ALONE,
    ) -> None:  # fmt: skip
        """
        Args:
            mean, std: per channel on the 0..1 scale, as the model was trained with.
            symmetries: average the probabilities over the eight symmetries of the square.
            group: processes that take the batches in turn.
        """
        self._runtime, self._group = runtime, group
        self._mean = torch.tensor(mean, dtype=torch.float32, device=runtime.device)
        self._std = torch.tensor(std, dtype=torch.float32, device=runtime.device)
        self._batch_size = batch_size
        self._views = range(8) if symmetries else range(1)

    @torch.inference_mode()
    def probabilities(self, model: nn.Module, images: Images, limit: int | None = None) -> NDArray[np.float64]:
        """Probabilities (N, C) float64, rows in the split's order; ``limit`` stops after so many batches.

        The model is put in evaluation mode. Of a single process host and device synchronise once, at the end.
        """
        model.eval()
        batches = list(in_order(images.num_images, self._batch_size, limit))
        own = batches[self._group.rank :: self._group.size]
        parts = [self._mean_over_views(model, images.gather(indices)[0]) for indices in own]
        if self._group.size == 1:
            return torch.cat(parts).cpu().numpy().astype(np.float64)
        return self._together(parts, own, sum(map(len, batches)))

    def _together(self, parts: list[Tensor], batches: list[Tensor], num_images: int) -> NDArray[np.float64]:
        """Each row is some process's and zero in the others, so that their sum is exact."""
        num_classes = self._group.agree(parts[0].shape[1] if parts else 0)  # there may be fewer batches than processes
        rows = torch.zeros(num_images, num_classes)
        for indices, part in zip(batches, parts, strict=True):
            rows[indices] = part.cpu()
        return self._group.sum(rows).numpy().astype(np.float64)

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
