"""The norm of the gradient: looked at now and then, and clipped."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class GradientNorm:
    """Mean Euclidean norm over those steps of an epoch at which it is measured, kept on the device.

    It is that of the whole gradient before clipping. A step whose gradient overflowed, which fp16's scaler leaves out,
    does not count.
    """

    def __init__(self, device: torch.device, total: float = 0.0, count: int = 0) -> None:
        """
        Args:
            total: sum over the steps of the epoch so far, where a training goes on within one.
            count: the steps in it.
        """
        self._sum = torch.tensor([total, count], dtype=torch.float32, device=device)

    def add(self, norm: Tensor) -> None:
        """Add a step's norm (scalar float32) on the device."""
        counts = norm.isfinite()
        self._sum += torch.stack([torch.where(counts, norm, 0.0), counts.float()])

    def look(self) -> tuple[float, int]:
        """(sum, steps) so far. SYNCHRONISES host and device."""
        total, count = self._sum.tolist()
        return total, int(count)


def clipped(parameters: Iterable[nn.Parameter], largest: float | None) -> Tensor:
    """Scale the gradients so that their norm is at most ``largest``; None leaves them alone.

    Returns:
        The norm before, scalar.
    """
    with_gradients = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in with_gradients if parameter.grad is not None])
    if largest is not None:
        nn.utils.clip_grads_with_norm_(with_gradients, largest, norm)
    return norm
