"""The training loss, and the guard that stops a training whose loss is no number."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from landuse.config.schema import TrainerConfig
from landuse.errors import UserError
from landuse.training.device import Runtime
from landuse.training.group import ALONE, Group


class NonFiniteLossError(UserError):
    """The training diverged: its loss, or what it made of the weights, is infinite or not a number."""


class Criterion:
    """Cross-entropy on logits with label smoothing, class weights and mixed labels, SUMMED over the batch.

    The sum lets the caller divide by the images of a whole optimiser step, which makes gradient accumulation equal to
    one large batch, a short last batch included.
    """

    def __init__(
        self, config: TrainerConfig, labels: NDArray[np.int64], num_classes: int, device: torch.device
    ) -> None:
        self._smoothing = config.label_smoothing
        self._weights = None
        if config.class_weights == "balanced":
            counts = np.bincount(labels, minlength=num_classes)
            # N / (C n_c): the mean weight over the training images is 1, so the loss keeps its scale.
            weights = len(labels) / (num_classes * np.maximum(counts, 1))
            self._weights = torch.tensor(weights, dtype=torch.float32, device=device)

    def __call__(self, logits: Tensor, labels_a: Tensor, labels_b: Tensor, weight_of_a: Tensor | float) -> Tensor:
        """Logits (N, C) of any float type and two label tensors (N,) int64 -> scalar float32."""
        logits = logits.float()
        if isinstance(weight_of_a, float) and weight_of_a == 1.0:  # nothing is mixed
            return self._sum(logits, labels_a)
        return weight_of_a * self._sum(logits, labels_a) + (1 - weight_of_a) * self._sum(logits, labels_b)

    def _sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, weight=self._weights, label_smoothing=self._smoothing, reduction="sum")


class RunningLoss:
    """Mean loss per image over an epoch, kept on the device; and the check that it is finite.

    On the CPU every step is checked before its update. On an accelerator a look makes the host wait for the device, and
    of several processes for all of them; there it is taken at log steps and at the end of the epoch, always before
    anything is saved.
    """

    def __init__(self, runtime: Runtime, loss_sum: float = 0.0, num_images: int = 0, group: Group = ALONE) -> None:
        device = runtime.device
        dtype = torch.float32 if device.type == "mps" else torch.float64  # which mps does not have
        self._sum = torch.full((), loss_sum if group.is_main else 0.0, dtype=dtype, device=device)
        self._num_images, self._group = num_images, group
        self._looks_always = device.type == "cpu" and group.size == 1
        self._precision = runtime.precision

    def add(self, loss: Tensor, num_images: int, where: str) -> None:
        """Add a step's loss (scalar), a mean over ``num_images`` of which this process may have had a share alone.

        ``where`` names step, rate and batch in the error.
        """
        if self._looks_always and not math.isfinite(loss.item()):
            raise diverged("The training loss is", where, self._precision)
        self._sum += loss.to(self._sum.dtype) * num_images
        self._num_images += num_images

    def look(self, where: str) -> tuple[float, int]:
        """(sum over images, images) so far, of all processes. SYNCHRONISES host and device."""
        total = self._group.sum(self._sum).item()
        if not math.isfinite(total):
            raise diverged("The training loss is", where, self._precision)
        return total, self._num_images


def diverged(what_is: str, where: str, precision: str) -> NonFiniteLossError:
    """The error with its cures; ``what_is`` begins its sentence, ``precision`` is that of the arithmetic."""
    cures = "Lower trainer.lr or set trainer.clip_norm=1.0"
    if precision != "fp32":
        cures += ", or use hardware.precision=fp32"
    return NonFiniteLossError(f"{what_is} not finite ({where}). {cures}.")
