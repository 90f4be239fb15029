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


@pytest.mark.parametrize("name", TORCHS_OWN)
def test_optimizers_are_torchs_to_the_bit(name: str) -> None:
    config = TrainerConfig(
        optimizer=name.removeprefix("plain "),  # type: ignore[arg-type]
        lr=0.1, momentum=0.0 if name == "plain sgd" else 0.7, betas=[0.8, 0.95], weight_decay=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(6, 2)).to(memory_format=torch.channels_last)
    ours[2].bias.requires_grad_(False)
    ours.append(nn.Linear(2, 2).double())
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
        images = torch.rand(5, 3, 8, 8)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model[3](model[:3](images).double()).square().mean().backward()
            if step == 1:
                model[0].bias.grad = None
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


def test_an_update_that_a_scaler_finds_infinite_is_left_out() -> None:
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, TrainerConfig(optimizer="adamw", lr=0.1))
    before = model.weight.clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(model.weight, before) and all(state["step"] == 0 for state in optimizer.state.values())
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert not torch.equal(model.weight, before)
    assert torch.equal(optimizer.state[model.bias]["exp_avg"], torch.full((2,), 0.05))  # 0.1 of a gradient of 1 / 2
