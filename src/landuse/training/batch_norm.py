"""Batch norm over a batch that is spread over processes."""

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Give every batch norm of a placed model the statistics of the whole batch; names and weights stay."""
    if next(model.parameters()).device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call,no-any-return]
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = CPUSyncBatchNorm  # torch's own refuses host tensors
    return model


class CPUSyncBatchNorm(_BatchNorm):
    """The same on the CPU, in plain operations: mean first and squared differences then, in float32.

    For trying out on a laptop what will run on GPUs; two exchanges a layer and direction are slow.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any of (n, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, C, ...) of any float type -> the same."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        dimensions = [d for d in range(values.ndim) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(values.ndim)]
        count = _sum(torch.tensor(float(values.numel() // values.shape[1])))
        mean = _sum(values.sum(dimensions)) / count
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(dimensions)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Running statistics, as nn.BatchNorm2d keeps them: of the unbiased variance."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, for each process's loss depends on what all have put in."""

    @staticmethod
    def forward(context: object, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _sum(tensor: Tensor) -> Tensor:
    return _Sum.apply(tensor)  # type: ignore[no-any-return]
