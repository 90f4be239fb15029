"""What one optimiser step does with the settings that are handed on to it."""

from typing import Any

import pytest
import torch

from landuse.config.schema import AugmentConfig
from landuse.training.batches import StepPlan
from landuse.training.gradient import GradientNorm
from landuse.training.loop import Trainer

from .conftest import tiny_config

PLAIN_SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}


def update(trainer: Trainer, lr: float, norms: GradientNorm | None = None) -> torch.Tensor:
    """The change of all weights by one step on eight images."""

    def weights() -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])

    before = weights()
    plan = [StepPlan(0, [torch.arange(8)])]
    for step, batches in trainer._batches.of_epoch(0, plan):
        trainer._forward_backward(step, batches)
    trainer._update(lr, norms)
    return weights() - before


@pytest.mark.parametrize("init_scale", [1.0, 1024.0])  # clipped before it is unscaled, the gradient would vanish
def test_the_gradients_norm_is_bounded(make_trainer, init_scale: float) -> None:
    free = update(make_trainer(tiny_config(**PLAIN_SGD)), lr=1.0)
    assert free.norm() > 0.02
    trainer = make_trainer(tiny_config(**PLAIN_SGD, clip_norm=0.01))
    trainer._scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    clipped = update(trainer, lr=1.0)
    assert clipped.norm() == pytest.approx(0.01, rel=1e-3)
    assert torch.allclose(clipped / clipped.norm(), free / free.norm(), atol=1e-3)


@pytest.mark.parametrize("init_scale", [1.0, 1024.0])
@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_the_gradients_norm_is_recorded_as_it_was(make_trainer, init_scale: float, clip_norm: float | None) -> None:
    free = update(make_trainer(tiny_config(**PLAIN_SGD)), lr=1.0)
    trainer, norms = make_trainer(tiny_config(**PLAIN_SGD, clip_norm=clip_norm)), GradientNorm(torch.device("cpu"))
    trainer._scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    update(trainer, lr=1.0, norms=norms)
    norms.add(torch.tensor(float("inf")))  # a step that the scaler leaves out
    assert norms.look() == (pytest.approx(float(free.norm()), rel=1e-3), 1)


def test_images_grow_and_mixing_ends_as_the_training_proceeds(make_trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    augment = AugmentConfig(size=24, start_size=8, grow_epochs=0.5, mixup=1.0, mix_epochs=0.125)
    trainer = make_trainer(tiny_config(augment, epochs=4))
    sizes, is_mixed = [], []

    def criterion(logits: torch.Tensor, a: torch.Tensor, b: torch.Tensor, weight: float) -> torch.Tensor:
        is_mixed.append(weight != 1.0)
        return logits.sum()

    trainer._criterion = criterion
    trainer.model.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[-1]))
    plan = [StepPlan(step, [torch.arange(8)]) for step in range(2)]
    for epoch in range(4):
        for step, batches in trainer._batches.of_epoch(epoch, plan):
            trainer._forward_backward(step, batches)
    assert sizes == [8, 8, 8, 8, 24, 24, 24, 24]
    assert is_mixed == [True] + [False] * 7
