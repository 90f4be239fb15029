"""Trainings put together in this process, for benchmarks that look at their parts."""

from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from landuse.config.compose import register, to_config
from landuse.config.folders import config_dir
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.data.augment import image_sizes
from landuse.data.pack import prepare
from landuse.models.registry import build_model
from landuse.training.device import build_runtime
from landuse.training.loop import Trainer
from landuse.training.observer import Observer


def wait(trainer: Trainer) -> None:
    """Until a GPU has done what it was told to; the host only tells it."""
    if trainer._runtime.device.type == "cuda":
        torch.cuda.synchronize()


class Nobody:
    """An observer that does nothing."""

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None: ...

    def epoch(self, record: dict[str, Any]) -> None: ...


def compose_config(overrides: list[str]) -> Config:
    """The configuration that these overrides make of the built-in one."""
    register()
    with initialize_config_dir(str(config_dir())):
        config = to_config(compose("config", overrides))
    validate(config)
    return config


def build_trainer(config: Config, folder: Path, observer: Observer | None = None) -> Trainer:
    """A training as a command would begin it; checkpoints go into ``folder``."""
    pack = prepare(config.data)
    model = build_model(config.model, len(pack.classes), pack.image_size)
    smallest_px = min(image_sizes(config.augment, pack.image_size))
    runtime = build_runtime(config.trainer.device, config.hardware, model, config.trainer.deterministic, smallest_px)
    return Trainer(config, runtime.place(model), pack, runtime, folder, observer or Nobody())
