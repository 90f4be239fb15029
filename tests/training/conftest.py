"""A tiny packed dataset and the parts of a training, without Hydra."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from landuse.config.schema import (
    AugmentConfig,
    CNNConfig,
    Config,
    DataConfig,
    HardwareConfig,
    TrainerConfig,
)
from landuse.data.augment import image_sizes
from landuse.data.pack import Pack, prepare
from landuse.models.registry import build_model
from landuse.training.device import Runtime, build_runtime
from landuse.training.loop import Trainer
from landuse.training.seed import seed_torch

EVERYTHING: dict[str, Any] = {
    "augment": AugmentConfig(
        symmetries=True, crop_scale=[0.5, 1.0], size=12, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1,
        erasing=0.5, mixup=0.2, cutmix=1.0, mix_probability=0.8, mix_epochs=0.9,
    ),
    "ema": 0.9,
    "accumulate": 2,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
}  # fmt: skip


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.records: list[dict[str, Any]] = []

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        self.steps.append((epoch, step))

    def epoch(self, record: dict[str, Any]) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pack(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    home = tmp_path_factory.getbasetemp() / "shared-packs"
    return prepare(DataConfig(name="folder", source="folder", root=str(image_folder), home=str(home), image_size=16))


def tiny_config(augment: AugmentConfig | None = None, hardware: HardwareConfig | None = None, **trainer: Any) -> Config:
    """36 training images in batches of 8, a network of two blocks."""
    settings = {"device": "cpu", "epochs": 3, "batch_size": 8, "lr": 0.01, "warmup_epochs": 0.5} | trainer
    return Config(
        model=CNNConfig(width=4, depth=2),
        augment=augment or AugmentConfig(),
        hardware=hardware or HardwareConfig(precision="fp32"),
        trainer=TrainerConfig(**settings),
    )


@pytest.fixture
def cpu() -> Runtime:
    return build_runtime("cpu", HardwareConfig(precision="fp32"), torch.nn.Identity())


@pytest.fixture
def make_trainer(pack: Pack, tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer with weights initialised from the configuration's seed."""

    def make(
        config: Config, name: str = "checkpoints", prepare: Callable[[torch.nn.Module], None] = lambda model: None
    ) -> Trainer:
        seed_torch(config.seed, "initialisation")
        model = build_model(config.model, len(pack.classes), pack.image_size)
        prepare(model)
        smallest_px = min(image_sizes(config.augment, pack.image_size))
        runtime = build_runtime(
            config.trainer.device, config.hardware, model, config.trainer.deterministic, smallest_px
        )
        return Trainer(config, runtime.place(model), pack, runtime, tmp_path / name, Recorder())

    return make
