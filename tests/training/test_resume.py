"""What a resumed training takes from its checkpoint, what from its own configuration, and what it refuses."""

import signal
from pathlib import Path

import pytest
import torch

from landuse.errors import Interrupted, UserError
from landuse.training import checkpoint
from landuse.training.loop import Trainer

from .conftest import tiny_config


def stop_after(trainer: Trainer, epoch: int, step: int) -> None:
    """Train until a signal that comes in this step (from 1)."""

    def observe(now: int, done: int, num_steps: int, num_images: int) -> None:
        if (now, done) == (epoch, step):
            trainer.stop_signal = signal.SIGTERM

    trainer._observer.step = observe  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        trainer.fit()


def test_plateau_remembers_its_decays(make_trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_is_better", lambda self, metrics: self.state.epoch == 0)
    config = tiny_config(scheduler="plateau", decay_epochs=2, epochs=5, lr=0.01, warmup_epochs=0.0)
    first = make_trainer(config)
    stop_after(first, epoch=3, step=5)  # epochs 1 and 2 were stale and lowered the rate, 3 is stale again
    second = make_trainer(config)
    second.restore(second._path("last"))
    assert (second._schedule.decays, second._schedule.stale_epochs) == (1, 1)
    second.fit()
    assert second._observer.records[-1]["lr"] == pytest.approx(1e-3)
    assert second._schedule.decays == 2


def test_the_optimisers_settings_are_the_resumed_runs_own(make_trainer) -> None:
    first = make_trainer(tiny_config(weight_decay=0.1, betas=[0.9, 0.99]))
    stop_after(first, epoch=0, step=2)
    second = make_trainer(tiny_config(weight_decay=0.7, betas=[0.5, 0.6]))
    second.restore(second._path("last"))
    groups = second._optimizer.param_groups
    assert [(group["weight_decay"], group["betas"]) for group in groups] == [(0.7, (0.5, 0.6)), (0.0, (0.5, 0.6))]
    assert all(state["step"] == 2 for state in second._optimizer.state.values())


def test_the_loss_scale_comes_along(make_trainer) -> None:
    scales = []
    for init_scale in (256.0, 2.0):
        trainer = make_trainer(tiny_config())
        trainer._scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
        if init_scale == 256.0:
            stop_after(trainer, epoch=0, step=1)
        else:
            trainer.restore(trainer._path("last"))
        scales.append(trainer._scaler.state_dict()["scale"])
    assert scales == [256.0, 256.0]


def test_a_best_of_another_epoch_counts_as_missing(
    make_trainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A checkpoint older than the best beside it, such as a copy that was set aside."""
    monkeypatch.setattr(Trainer, "_is_better", lambda self, metrics: self.state.epoch in (0, 2))
    first = make_trainer(tiny_config(epochs=2))
    first.fit()
    old = tmp_path / "checkpoints" / "old.pt"
    checkpoint.copy(first._path("last"), old)
    second = make_trainer(tiny_config(epochs=3))
    second.restore(second._path("last"))
    second.fit()
    monkeypatch.undo()

    third = make_trainer(tiny_config(epochs=4))
    third.restore(old)
    assert (third.state.epoch, third.state.best_epoch, third.state.best, third.state.stale_epochs) == (2, None, {}, 0)
    third.fit()
    third.load_best()


def test_another_runs_checkpoints_come_along(make_trainer) -> None:
    """Killed before its own first checkpoint, the run goes on from the same place."""
    first = make_trainer(tiny_config(), "first")
    stop_after(first, epoch=1, step=2)
    second = make_trainer(tiny_config(), "second")
    second.restore(first._path("last"))
    for name in ("best", "last"):
        assert second._path(name).read_bytes() == first._path(name).read_bytes()


def test_nothing_left_to_train_is_said_before_anything_is_written(
    make_trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_is_better", lambda self, metrics: self.state.epoch == 0)
    first = make_trainer(tiny_config(epochs=3), "first")
    first.fit()
    first._path("best").unlink()
    second = make_trainer(tiny_config(epochs=3), "second")
    with pytest.raises(UserError, match=r"has no steps left: raise trainer\.epochs=3"):
        second.restore(first._path("last"))
    assert not second._folder.exists()
