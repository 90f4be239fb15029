"""Optimisers: to the bit what torch's own compute."""

import copy

import pytest
import torch
from torch import nn

from landuse.config.schema import TrainerConfig
from landuse.training.optim import build_optimizer, parameter_groups

TORCHS_OWN = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.7, nesterov=True, fused=True),
    "plain sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.95), fused=True),
    "radam": lambda groups: torch.optim.RAdam(groups, lr=0.1, betas=(0.8, 0.95), decoupled_weight_decay=True),
}


def same_gradients(model: nn.Module, other: nn.Module) -> None:
    """Not by a second backward pass, whose sums a GPU may add in another order."""
    for parameter, its in zip(model.parameters(), other.parameters(), strict=True):
        its.grad = None if parameter.grad is None else parameter.grad.clone()


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TORCHS_OWN)
def test_optimizers_are_torchs_to_the_bit(name: str, device: str) -> None:
    config = TrainerConfig(
        optimizer=name.removeprefix("plain "),  # type: ignore[arg-type]
        lr=0.1, momentum=0.0 if name == "plain sgd" else 0.7, betas=[0.8, 0.95], weight_decay=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(6, 2))
    ours = ours.to(device, memory_format=torch.channels_last)
    ours[2].bias.requires_grad_(False)
    ours.append(nn.Linear(2, 2).double().to(device))
    theirs = copy.deepcopy(ours)
    optimizers = build_optimizer(ours, config), TORCHS_OWN[name](parameter_groups(theirs, 0.3))
    for step in range(4):
        if step == 2:  # through dictionaries, in which memory layouts are lost
            content = copy.deepcopy(optimizers[0].state_dict())
            for state in content["state"].values():
                state.update({key: value.contiguous() for key, value in state.items()})
            optimizers[0].zero_grad()
            optimizers = build_optimizer(ours, config), optimizers[1]
            optimizers[0].load_state_dict(content)
        for group in [*optimizers[0].param_groups, *optimizers[1].param_groups]:
            group["lr"] = 0.1 / (step + 1)
        images = torch.rand(5, 3, 8, 8).to(device)
        ours.zero_grad()
        ours[3](ours[:3](images).double()).square().mean().backward()
        if step == 1:
            ours[0].bias.grad = None
        same_gradients(ours, theirs)
        for optimizer in optimizers:
            optimizer.step()
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(own, other) for own, other in pairs)
    states = (optimizer.state_dict()["state"] for optimizer in optimizers)
    for own, other in zip(*(state.values() for state in states), strict=True):
        assert own.keys() == {key for key, value in other.items() if value is not None}
        assert all(torch.equal(own[key], other[key]) for key in own)


def test_settings_of_optimizers() -> None:
    optimizer = build_optimizer(nn.Linear(3, 2), TrainerConfig(optimizer="adamw", lr=0.1, betas=[0.8, 0.95]))
    assert {key: optimizer.param_groups[0][key] for key in ("lr", "betas", "weight_decay")} == {
        "lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 1e-2,
    }  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_with_a_scaler_of_gradients(name: str, clip: bool, device: str) -> None:
    """An overflow in two steps, whose updates are left out, as torch's optimisers do it."""
    torch.manual_seed(0)
    ours = nn.Linear(3, 2).to(device)
    theirs = copy.deepcopy(ours)
    config = TrainerConfig(optimizer=name, lr=0.1, momentum=0.7, betas=[0.8, 0.95])  # type: ignore[arg-type]
    optimizers = build_optimizer(ours, config), TORCHS_OWN[name](parameter_groups(theirs, config.weight_decay))
    scalers = [torch.amp.GradScaler(device, init_scale=2.0**10) for _ in optimizers]
    for step in range(5):
        features = torch.rand(4, 3).to(device) * (float("inf") if step in (1, 3) else 1)
        for model, optimizer, scaler in zip((ours, theirs), optimizers, scalers, strict=True):
            optimizer.zero_grad()
            scaler.scale(model(features).square().mean()).backward()
            if clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
    assert scalers[0].get_scale() == scalers[1].get_scale() == 2.0**8
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(own, other) and own.isfinite().all() for own, other in pairs)
    if name == "adamw":
        assert all(state["step"] == 3 for state in optimizers[0].state.values())


def test_an_overflow_in_the_very_first_step() -> None:
    """Of which torch's SGD would keep whatever was in its memory as momentum."""
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, TrainerConfig(optimizer="sgd"))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.full((1, 3), torch.inf)).sum()).backward()
    scaler.step(optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not state["momentum_buffer"].any() for state in optimizer.state.values())


@pytest.mark.parametrize("step", [3, torch.tensor(3), torch.tensor(3.0, dtype=torch.float64)])
def test_a_state_of_other_types_is_converted(step: object) -> None:
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, TrainerConfig())
    moments = {number: torch.ones_like(p, dtype=torch.float64) for number, p in enumerate(optimizer._parameters())}
    state = {number: {"step": step, "exp_avg": m, "exp_avg_sq": m} for number, m in moments.items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert all(kept["step"] == 4 and kept["exp_avg"].dtype == torch.float32 for kept in optimizer.state.values())


@pytest.mark.parametrize("number", [-1, 2, True, "0"])
def test_a_state_of_no_parameter_is_refused(number: object) -> None:
    optimizer = build_optimizer(nn.Linear(3, 2), TrainerConfig())
    groups = optimizer.state_dict()["param_groups"]
    with pytest.raises(ValueError, match="there is no parameter"):
        optimizer.load_state_dict({"state": {number: {"step": 1}}, "param_groups": groups})


def test_elsewhere_torchs_own_are_used() -> None:
    model = nn.Linear(3, 2, device="meta")
    kinds = [type(build_optimizer(model, TrainerConfig(optimizer=name))) for name in ("sgd", "adamw", "radam")]
    assert kinds == [torch.optim.SGD, torch.optim.AdamW, torch.optim.RAdam]
