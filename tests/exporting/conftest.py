"""A run of tiny images, and networks that stand for families of architectures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import overrides, write_images
from tests.run_folders import commands

COLOURS = {"bare field": (90, 160, 60), "roof": (170, 80, 70), "water": (40, 80, 150), "sand": (210, 190, 140)}


def train_tiny(where: Path) -> None:
    """The run ``tiny`` of four classes, whose data are below ``data`` and come from ``images``."""
    images = write_images(where / "images", COLOURS, per_class=30)
    training = [*overrides(images, where), "model.width=8", "trainer.epochs=6", "hardware.num_threads=1"]
    commands(where, ["train", *training, "hydra.run.dir=tiny"])


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of :func:`train_tiny`."""
    where = tmp_path_factory.mktemp("exporting")
    train_tiny(where)
    return where


def vit(num_classes: int) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=num_classes)


def swin(num_classes: int) -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=num_classes)


def convnext(num_classes: int) -> nn.Module:
    from torchvision.models import ConvNeXt
    from torchvision.models.convnext import CNBlockConfig

    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=num_classes)


def named(name: str) -> Callable[[int], nn.Module]:
    """A whole architecture of the registry."""
    from landuse.config.schema import CNNConfig, SlimResNetConfig, TorchvisionConfig
    from landuse.models.registry import construct

    own = {"cnn": CNNConfig(width=8, depth=3), "slim_resnet": SlimResNetConfig(width=16, blocks=[1, 1, 1])}
    return lambda num_classes: construct(own.get(name, TorchvisionConfig(name=name)), num_classes, 32)


def seeded(build: Callable[[int], nn.Module], num_classes: int = 3) -> nn.Module:
    """A network with random weights and random statistics of its batch norms, in evaluation mode."""
    torch.manual_seed(0)
    model = build(num_classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()
