"""From the host to the device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A copy for which the host does not wait where CUDA keeps it in order; elsewhere (mps) it is waited for."""
    return tensor.to(device=device, dtype=dtype, non_blocking=device.type == "cuda")
