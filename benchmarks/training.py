"""How much of the machine's speed the training loop keeps.

    python -m benchmarks.training [pairs=8] [any training override, such as model=resnet18 trainer.device=cuda]

Runs, in turn and in one process, an epoch of the framework's loop (gather, augment, normalise, forward, backward,
update, guard, bookkeeping) and as many bare steps (forward, backward, update) on tensors that lie on the device
already. Same model, optimiser, precision, layout and batch size. Prints images/s of both and the ratio pair by pair.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from landuse.config.compose import register, to_config
from landuse.config.folders import config_dir
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.data.augment import normalise
from landuse.data.pack import prepare
from landuse.models.registry import build_model
from landuse.training.batches import epoch_plan
from landuse.training.device import build_runtime
from landuse.training.loop import Trainer
from landuse.training.optim import build_optimizer


class _Nobody:
    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None: ...

    def epoch(self, record: dict[str, object]) -> None: ...


def main(arguments: list[str]) -> None:
    """Measure and print a table."""
    pairs = next((int(a.partition("=")[2]) for a in arguments if a.startswith("pairs=")), 8)
    config = _compose([a for a in arguments if not a.startswith("pairs=")])
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(config, Path(folder))
        num_images = trainer._train_images.num_images
        bare = _BareLoop(trainer, config)
        rates: dict[str, list[float]] = {"bare": [], "loop": []}
        for pair in range(pairs + 1):  # the first warms up
            for name, run in (("bare", bare.epoch), ("loop", trainer._train_epoch)):
                started = time.perf_counter()
                run()
                _wait(trainer)
                if pair:
                    rates[name].append(num_images / (time.perf_counter() - started))
            trainer.state.epoch, trainer.state.step = pair + 1, 0
            trainer.state.loss_sum, trainer.state.num_images = 0.0, 0
    ratios = [loop / bare for bare, loop in zip(rates["bare"], rates["loop"], strict=True)]
    size, batch = config.data.image_size, config.trainer.batch_size
    print(f"{config.model.name}, {size} px, batch {batch}, torch {torch.__version__}")
    print(f"{trainer._runtime.describe()}")
    for name, values in (*rates.items(), ("loop / bare", ratios)):
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:12s} median {middle:9.3f}   min {low:9.3f}   max {high:9.3f}   n {len(values)}")


class _BareLoop:
    """Forward, backward and update on one epoch's worth of resident batches."""

    def __init__(self, trainer: Trainer, config: Config) -> None:
        runtime = self._runtime = trainer._runtime
        self._model = runtime.place(build_model(config.model, len(trainer._classes), config.data.image_size)).train()
        self._forward = torch.compile(self._model) if runtime.compile else self._model
        self._optimizer = build_optimizer(self._model, config.trainer)
        plan = epoch_plan(trainer._train_images.num_images, config.trainer.batch_size, 1, 0, 0, None)
        half = torch.full((3,), 0.5, device=runtime.device)
        batches = [trainer._train_images.gather(step.batches[0]) for step in plan]
        self._batches = [(normalise(images, half, half), labels) for images, labels in batches]

    def epoch(self) -> None:
        for inputs, labels in self._batches:
            with self._runtime.autocast():
                logits = self._forward(inputs)
            F.cross_entropy(logits.float(), labels).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()


def _compose(overrides: list[str]) -> Config:
    register()
    with initialize_config_dir(str(config_dir())):
        config = to_config(compose("config", overrides))
    validate(config)
    return config


def _trainer(config: Config, folder: Path) -> Trainer:
    pack = prepare(config.data)
    model = build_model(config.model, len(pack.classes), pack.image_size)
    runtime = build_runtime(config.trainer.device, config.hardware, model, config.trainer.deterministic)
    return Trainer(config, runtime.place(model), pack, runtime, folder, _Nobody())


def _wait(trainer: Trainer) -> None:
    if trainer._runtime.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1:])
