"""Optimisers and learning-rate schedules. To add one: a builder here, and its name in TrainerConfig."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from landuse.config.schema import TrainerConfig

ParamGroups = list[dict[str, object]]
MOST_EPOCHS = 2**31  # beyond it, a power of decay_factor is no number any more


def build_optimizer(model: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """The optimiser over all trainable parameters of a placed model."""
    return OPTIMIZERS[config.optimizer](parameter_groups(model, config.weight_decay), config)


def parameter_groups(model: nn.Module, weight_decay: float) -> ParamGroups:
    """Matrices and kernels of weights with decay; all else without, for shrinking it regularises nothing.

    That is biases and norms, but also what has several dimensions and is added or scales: position embeddings, class
    tokens, layer scales. torch and torchvision call a parameter "...weight" where it is multiplied with features.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and name.endswith("weight") else spared).append(parameter)
    groups: ParamGroups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _sgd(groups: ParamGroups, config: TrainerConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=_fused(groups)
    )


def _adamw(groups: ParamGroups, config: TrainerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), fused=_fused(groups))


def _radam(groups: ParamGroups, config: TrainerConfig) -> torch.optim.Optimizer:
    betas = (config.betas[0], config.betas[1])
    return torch.optim.RAdam(groups, lr=config.lr, betas=betas, decoupled_weight_decay=True)


OPTIMIZERS: dict[str, Callable[[ParamGroups, TrainerConfig], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "radam": _radam,
}


def _fused(groups: ParamGroups) -> bool:
    """One kernel for all parameters, where torch has it."""
    params = groups[0]["params"]
    assert isinstance(params, Iterable)
    return next(iter(params)).device.type in ("cpu", "cuda")


class Schedule:
    """The learning rate as a function of the training's progress; plateau alone has a memory.

    Attributes:
        decays: how often plateau has lowered the rate (kept in checkpoints).
        stale_epochs: epochs since the monitored metric last improved or the rate was lowered (likewise).
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self.decays = 0
        self.stale_epochs = 0

    def lr(self, progress: float) -> float:
        """The rate after ``progress`` epochs, a fraction within an epoch."""
        config = self._config
        warmup = min(1.0, (progress + 1e-12) / config.warmup_epochs) if config.warmup_epochs > 0 else 1.0
        if config.scheduler == "one_cycle":
            return config.lr * self._one_cycle(progress)
        if config.scheduler == "cosine":
            factor = _cosine(1.0, config.final_lr, self._after_warmup(progress))
        elif config.scheduler == "step":
            factor = config.decay_factor ** (int(progress) // config.decay_epochs)
        elif config.scheduler == "plateau":
            factor = config.decay_factor**self.decays
        else:
            return config.lr  # constant
        return config.lr * max(warmup, 1e-3) * factor

    def end_epoch(self, improved: bool) -> None:
        """Tell plateau how the epoch went."""
        self.stale_epochs = 0 if improved else self.stale_epochs + 1
        if self._config.scheduler == "plateau" and self.stale_epochs >= self._config.decay_epochs:
            self.decays += 1
            self.stale_epochs = 0

    def restore(self, decays: int, stale_epochs: int) -> None:
        """Go on with what a checkpoint kept.

        Raises:
            ValueError: they are no counts.
        """
        if not all(type(count) is int and 0 <= count < MOST_EPOCHS for count in (decays, stale_epochs)):
            raise ValueError("its schedule has no counts")
        self.decays, self.stale_epochs = decays, stale_epochs

    def _after_warmup(self, progress: float) -> float:
        length = self._config.epochs - self._config.warmup_epochs
        if length <= 0:
            return 0.0  # a training that is all warm-up never comes to its decay
        return min(1.0, max(0.0, progress - self._config.warmup_epochs) / length)

    def _one_cycle(self, progress: float) -> float:
        """Half a cosine from 1/25 up to 1, half a cosine down to final_lr (Smith & Topin 2018, as torch shapes it)."""
        config = self._config
        if progress < config.warmup_epochs:
            return _cosine(1 / 25, 1.0, progress / config.warmup_epochs)
        return _cosine(1.0, config.final_lr, self._after_warmup(progress))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
