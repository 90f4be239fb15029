"""A training that was interrupted, killed or robbed of a checkpoint ends as if nothing had happened, to the bit."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kills import CLOCKS, parts
from landuse.config.schema import HardwareConfig
from landuse.errors import Interrupted
from landuse.training import checkpoint
from landuse.training.loop import Trainer

from .conftest import EVERYTHING, tiny_config


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in CLOCKS}


def records(*trainers: Trainer) -> list[dict[str, Any]]:
    return [untimed(record) for trainer in trainers for record in trainer._observer.records]


def require_equal(run: Trainer, whole: Trainer) -> None:
    for name in ("last", "best"):
        ours, theirs = parts(run._path(name)), parts(whole._path(name))
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if ours[key] != theirs[key]] == []


def stop_at(trainer: Trainer, epoch: int, step: int) -> None:
    """A signal comes in this step (from 1)."""
    passed_on = trainer._observer.step

    def observe(now: int, done: int, num_steps: int, num_images: int) -> None:
        passed_on(now, done, num_steps, num_images)
        if (now, done) == (epoch, step):
            trainer.stop_signal = signal.SIGTERM

    trainer._observer.step = observe


def resumed(make_trainer: Any, config: Any, name: str = "parts") -> Trainer:
    trainer: Trainer = make_trainer(config, name)
    path = checkpoint.find(trainer._folder.parent)
    if path.exists():
        trainer.restore(path)
    return trainer


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    """As a training has, unlike other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make(make_trainer: Any) -> Any:
    """Trainers whose checkpoints lie in the folder ``checkpoints`` of a run."""
    return lambda config, name: make_trainer(config, f"{name}/checkpoints")


CASES = [
    (precision, optimizer, scheduler, 2)
    for precision in ("fp32", "bf16")
    for optimizer in ("sgd", "adamw", "radam")
    for scheduler in ("cosine", "one_cycle", "step", "plateau", "constant")
] + [("fp32", "adamw", "cosine", step) for step in (1, 3)]  # 3: the last step of an epoch


@pytest.mark.parametrize(("precision", "optimizer", "scheduler", "stop_after"), CASES)
def test_resumed_equals_uninterrupted(make, precision: str, optimizer: str, scheduler: str, stop_after: int) -> None:
    config = tiny_config(
        optimizer=optimizer, scheduler=scheduler, decay_epochs=1, hardware=HardwareConfig(precision=precision),
        **EVERYTHING,
    )  # fmt: skip
    whole = make(config, "whole")
    whole.fit()
    first = make(config, "parts")
    stop_at(first, 1, stop_after)
    with pytest.raises(Interrupted) as stopped:
        first.fit()
    assert stopped.value.signal_number == signal.SIGTERM
    second = resumed(make, config)
    assert (second.state.epoch, second.state.step) == ((1, stop_after) if stop_after < 3 else (2, 0))
    second.fit()
    require_equal(second, whole)
    assert records(first, second) == records(whole)


def test_early_stopping_comes_at_the_same_epoch(make) -> None:
    config = tiny_config(lr=0.03, epochs=20, early_stopping=1, monitor="val/loss", scheduler="constant")
    whole = make(config, "whole")
    whole.fit()
    assert 2 < whole.state.epoch < 20
    parts = []
    for epoch in range(whole.state.epoch):
        parts.append(resumed(make, config))
        stop_at(parts[-1], epoch, 1 + epoch % 4)
        with pytest.raises(Interrupted):
            parts[-1].fit()
    parts.append(resumed(make, config))
    parts[-1].fit()
    require_equal(parts[-1], whole)
    assert records(*parts) == records(whole)


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("checkpoint_steps", [None, 2])
@pytest.mark.parametrize("killed_at", range(1, 15))
def test_a_kill_between_any_two_files_loses_nothing(
    make, monkeypatch: pytest.MonkeyPatch, killed_at: int, checkpoint_steps: int | None
) -> None:
    """At every rename of a checkpoint; steps and averages are not what is tested here."""
    config = tiny_config(epochs=4, lr=0.05, monitor="val/loss", checkpoint_steps=checkpoint_steps)
    whole = make(tiny_config(epochs=4, lr=0.05, monitor="val/loss"), "whole")
    whole.fit()
    first, left = make(config, "parts"), killed_at
    really_replace = Path.replace

    def mortal(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        return really_replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", mortal)
        try:
            first.fit()
        except Killed:
            second = resumed(make, config)
            second.fit()
        else:
            assert killed_at > 10
            second = first
    require_equal(second, whole)
    second.load_best()
    assert second._validate() == whole.state.best


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
@pytest.mark.parametrize("names", [("last",), ("best",), ("previous",), ("last", "previous")])
@pytest.mark.parametrize("step", [1, 4])
def test_a_damaged_checkpoint_costs_the_steps_since_another(
    make, names: tuple[str, ...], damage: str, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The training falls back to the one before and says so; in the end it is the same.

    The best epoch is the second one. Its checkpoint is not found among the others only where best.pt itself is gone and
    two more were written since.
    """
    config = tiny_config(epochs=4, lr=0.05, monitor="val/loss", checkpoint_steps=2)
    whole = make(config, "whole")
    whole.fit()
    first = make(config, "parts")
    stop_at(first, 2, step)
    with pytest.raises(Interrupted):
        first.fit()
    for name in names:
        path = first._path(name)
        tensors = checkpoint.load(path, {})[1]["model"].values()
        weights = next(tensor for tensor in tensors if tensor.ndim == 1).numpy().tobytes()
        whole_file = bytearray(path.read_bytes())
        whole_file[whole_file.index(weights) + 7] ^= 1
        path.unlink()
        if damage != "missing":
            path.write_bytes({"cut": whole_file[:-1000], "flipped": whole_file, "empty": b""}[damage])
    second = resumed(make, config)
    assert ("cannot be used" in caplog.text) == (damage != "missing")
    second.fit()
    if names != ("best",) or step == 1:
        require_equal(second, whole)
    else:
        assert "no checkpoint of the best epoch" in caplog.text
    second.load_best()
