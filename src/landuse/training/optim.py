"""Optimisers. To add one: a builder here, and its name in TrainerConfig."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from landuse.config.schema import TrainerConfig

ParamGroups = list[dict[str, Any]]
EPS = 1e-8  # of AdamW, added to the root of the mean square; torch's default


class FusedOptimizer:
    """SGD or AdamW by torch's fused kernels: to the bit what ``torch.optim`` computes with ``fused=True``.

    The first optimiser of ``torch.optim`` in a process imports torch's compiler, which takes as long as all else that a
    training does before its first step, but the import of torch itself. Parameters, their state and its dictionaries
    are laid out as there, and a gradient scaler finds what it needs.

    Attributes:
        param_groups: ``params``, ``lr``, ``weight_decay``, and what the kind of optimiser takes.
        state: what was kept of each parameter that has been updated.
    """

    _step_supports_amp_scaling = True  # GradScaler hands on its scale and what it found, and does not wait for it

    def __init__(self, groups: ParamGroups, **settings: Any) -> None:
        self.param_groups: ParamGroups = [{**settings, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        scaling = {"grad_scale": getattr(self, "grad_scale", None), "found_inf": getattr(self, "found_inf", None)}
        for group in self.param_groups:
            alike: dict[Any, list[tuple[Tensor, Tensor]]] = defaultdict(list)  # a kernel takes one kind of tensor
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.device, parameter.dtype].append((parameter, parameter.grad))
            for pairs in alike.values():
                parameters, gradients = map(list, zip(*pairs, strict=True))
                self._update(group, parameters, gradients, scaling)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The state by the parameters' numbers, and the groups with numbers instead of parameters."""
        numbers = {parameter: number for number, parameter in enumerate(self._parameters())}
        groups = [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[p]: state for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave, on each parameter's device, in its type and memory layout.

        Raises:
            ValueError, RuntimeError, TypeError: it does not fit the parameters.
        """
        parameters = dict(enumerate(self._parameters()))
        for group, found in zip(self.param_groups, content["param_groups"], strict=True):
            group |= {key: value for key, value in found.items() if key != "params"}
        self.state.clear()
        for number, state in content["state"].items():
            if type(number) is not int or number not in parameters:
                raise ValueError(f"there is no parameter {number}")
            parameter = parameters[number]
            self.state[parameter] = {key: _as_kept(key, value, parameter) for key, value in state.items()}

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _kept(self, name: str, parameters: list[Tensor]) -> list[Tensor]:
        """A running mean of each parameter's gradients, or of their squares; zeros at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return [self.state[parameter][name] for parameter in parameters]

    def _update(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], scaling: dict[str, Any]
    ) -> None:
        raise NotImplementedError


class SGD(FusedOptimizer):
    """Stochastic gradient descent, with Nesterov's momentum or none (``momentum=0``)."""

    def _update(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], scaling: dict[str, Any]
    ) -> None:
        momentum = group["momentum"]
        torch._fused_sgd_(
            parameters, gradients, self._kept("momentum_buffer", parameters) if momentum else [],
            weight_decay=group["weight_decay"], momentum=momentum, lr=group["lr"], dampening=0.0,
            nesterov=momentum > 0, maximize=False, is_first_step=False, **scaling,
        )  # fmt: skip


class AdamW(FusedOptimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    def _update(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], scaling: dict[str, Any]
    ) -> None:
        for parameter in parameters:
            if "step" not in self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        steps = [self.state[parameter]["step"] for parameter in parameters]
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(
            parameters, gradients, self._kept("exp_avg", parameters), self._kept("exp_avg_sq", parameters), [], steps,
            lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=EPS, amsgrad=False,
            maximize=False, **scaling,
        )  # fmt: skip
        if scaling["found_inf"] is not None:  # 1.0 where the update was left out
            torch._foreach_sub_(steps, [scaling["found_inf"]] * len(steps))


def _as_kept(key: str, value: Any, parameter: Tensor) -> Tensor:
    """The kernels go through a parameter and what was kept of it side by side, whatever their strides and types."""
    kept = torch.as_tensor(value)
    if kept.shape != (() if key == "step" else parameter.shape):
        raise ValueError(f"{key} has another shape")
    if key == "step":
        return kept.to(parameter.device, torch.float32, copy=True)
    return torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(kept)


Optimizer = FusedOptimizer | torch.optim.Optimizer


def build_optimizer(model: nn.Module, config: TrainerConfig) -> Optimizer:
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


def _sgd(groups: ParamGroups, config: TrainerConfig) -> Optimizer:
    if not _have_kernels(groups):
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return SGD(groups, lr=config.lr, momentum=config.momentum)


def _adamw(groups: ParamGroups, config: TrainerConfig) -> Optimizer:
    betas = (config.betas[0], config.betas[1])
    if not _have_kernels(groups):
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas)
    return AdamW(groups, lr=config.lr, betas=betas)


def _radam(groups: ParamGroups, config: TrainerConfig) -> Optimizer:
    betas = (config.betas[0], config.betas[1])
    return torch.optim.RAdam(groups, lr=config.lr, betas=betas, decoupled_weight_decay=True)


def _have_kernels(groups: ParamGroups) -> bool:
    """Whether these parameters are where torch's fused kernels do all that is asked of them: not so on Apple's GPUs."""
    return all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])


OPTIMIZERS: dict[str, Callable[[ParamGroups, TrainerConfig], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "radam": _radam,
}
