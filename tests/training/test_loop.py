"""The loop: it learns, it counts right, it resumes exactly, it stops when it must."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from landuse.config.schema import HardwareConfig
from landuse.errors import UserError
from landuse.evaluation.metrics import summarise
from landuse.models.head import freeze_backbone
from landuse.training import checkpoint
from landuse.training.batches import StepPlan
from landuse.training.loop import Trainer
from landuse.training.loss import NonFiniteLossError

from .conftest import EVERYTHING, tiny_config


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [
        tensor.clone()
        for tensor in (*trainer.model.state_dict().values(), *trainer.average.model.state_dict().values())
    ]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_overfits_two_batches(make_trainer) -> None:
    trainer = make_trainer(tiny_config(overfit_batches=2, epochs=40, scheduler="constant"))
    trainer.fit()
    assert trainer.state.best["val/accuracy"] == 1.0


def test_records_have_the_promised_keys(make_trainer) -> None:
    trainer = make_trainer(tiny_config())
    trainer.fit()
    keys = {"epoch", "step", "train/loss", "train/grad_norm", "val/loss", "val/accuracy", "lr", "images_per_second"}
    keys |= {"seconds"}
    assert [record["epoch"] for record in trainer._observer.records] == [0, 1, 2]
    assert all(set(record) == keys for record in trainer._observer.records)
    assert trainer.state.epoch == 3
    assert trainer._observer.steps == [(epoch, step) for epoch in range(3) for step in range(1, 6)]


def test_same_seed_same_weights_other_seed_others(make_trainer) -> None:
    runs = []
    for seed in (0, 0, 1):
        config = tiny_config(**EVERYTHING)
        config.seed = seed
        trainer = make_trainer(config, f"run{len(runs)}")
        trainer.fit()
        runs.append(weights(trainer))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_accumulation_equals_the_large_batch(make_trainer) -> None:
    """Gradients of 20 images at once and in 8, 8 and 4; batch norm in evaluation mode sees no batch of its own."""
    images = torch.arange(20)
    results = []
    for batches in ([images], list(images.split([8, 8, 4]))):
        trainer = make_trainer(tiny_config(label_smoothing=0.1))
        trainer.model.eval()
        plan = [StepPlan(0, batches)]
        loss = sum(trainer._forward_backward(*step) for step in trainer._batches.of_epoch(0, plan))
        results.append((loss, [parameter.grad for parameter in trainer.model.parameters()]))
    (loss_a, gradients_a), (loss_b, gradients_b) = results
    assert torch.allclose(loss_a, loss_b)
    assert any(gradient.abs().sum() > 0 for gradient in gradients_a)
    for a, b in zip(gradients_a, gradients_b, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-7)


def test_early_stopping(make_trainer) -> None:
    trainer = make_trainer(tiny_config(lr=1e-12, epochs=10, early_stopping=2))
    trainer.fit()
    assert trainer.state.epoch < 10
    assert trainer.state.stale_epochs == 2


def test_best_is_the_best(make_trainer) -> None:
    trainer = make_trainer(tiny_config(epochs=6, monitor="val/loss", lr=0.1))
    trainer.fit()
    losses = [record["val/loss"] for record in trainer._observer.records]
    assert trainer.state.best["val/loss"] == min(losses)
    assert trainer.state.best_epoch == losses.index(min(losses))
    state, _ = checkpoint.load(trainer._path("best"), {})
    assert state.epoch == trainer.state.best_epoch + 1


def test_load_best_gives_the_averaged_weights_of_the_best_epoch(make_trainer) -> None:
    trainer = make_trainer(tiny_config(epochs=5, ema=0.5, lr=0.05))
    trainer.fit()
    model = trainer.load_best()
    assert model is trainer.average.model
    assert trainer._validate() == trainer.state.best


def test_non_finite_loss_stops_before_the_update(make_trainer) -> None:
    trainer = make_trainer(tiny_config())
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 1, lr .*trainer.lr"):
        trainer.fit()
    for a, b in zip(before, trainer.model.parameters(), strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    assert not trainer._path("last").exists()


@pytest.mark.parametrize(
    ("poisoned_step", "signal_number", "value", "what"),
    [
        (2, signal.SIGTERM, float("nan"), "weights are"),
        (5, None, float("nan"), "weights are"),
        (5, None, 1e38, "predictions are"),
    ],
)
def test_a_poisoned_update_is_never_saved(
    make_trainer, poisoned_step: int, signal_number: int | None, value: float, what: str
) -> None:
    """The loss of a step is finite, its update is not; then comes a signal, or the end of the epoch."""
    trainer = make_trainer(tiny_config())

    def poison(epoch: int, step: int, num_steps: int, num_images: int) -> None:
        if step == poisoned_step:
            trainer.stop_signal = signal_number
            with torch.no_grad():
                for parameter in trainer.model.parameters():
                    parameter.fill_(value)

    trainer._observer.step = poison
    with pytest.raises(NonFiniteLossError, match=f"The {what} not finite .*epoch 1.*Lower trainer.lr"):
        trainer.fit()
    assert not trainer._path("last").exists()


def test_a_signal_in_the_very_last_step_changes_nothing(make_trainer) -> None:
    trainer = make_trainer(tiny_config(epochs=2))

    def stop_at_the_end(epoch: int, step: int, num_steps: int, num_images: int) -> None:
        trainer.stop_signal = signal.SIGTERM if (epoch, step) == (1, num_steps) else None

    trainer._observer.step = stop_at_the_end
    trainer.fit()
    assert trainer.state.epoch == 2


def test_limits(make_trainer) -> None:
    trainer = make_trainer(tiny_config(limit_train_batches=1, limit_val_batches=1, epochs=1))
    trainer.fit()
    assert trainer._observer.steps == [(0, 1)]
    probabilities = trainer._predictor.probabilities(trainer.model, trainer._val_images, limit=1)
    assert len(probabilities) == 8  # of 12
    expected = summarise(probabilities, trainer._val_labels[:8], trainer._classes)
    assert trainer.state.best == {"val/loss": expected["loss"], "val/accuracy": expected["accuracy"]}


def test_resume_refuses_another_dataset(make_trainer, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_config(epochs=1))
    trainer.fit()
    trainer._identity = {**trainer._identity, "data_fingerprint": "another"}
    with pytest.raises(UserError, match="data_fingerprint.*must agree"):
        trainer.restore(trainer._path("last"))


def test_frozen_backbone_stays(make_trainer) -> None:
    trainer = make_trainer(tiny_config(), prepare=lambda model: freeze_backbone(model, 3))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.fit()
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert len(changed) == 2  # weight and bias of the head; batch norm's statistics stay too


def test_training_goes_through_the_compiled_model(make_trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compiled(model: torch.nn.Module, dynamic: bool | None) -> Any:
        assert dynamic is False  # else a resumed run has other kernels than an uninterrupted one
        return lambda inputs: calls.append(len(inputs)) or model(inputs)

    monkeypatch.setattr(torch, "compile", compiled)
    make_trainer(tiny_config(hardware=HardwareConfig(precision="fp32", compile=True), epochs=1)).fit()
    assert sum(calls) == 36  # every training image once; validation runs the plain model
