"""The slim ResNet: shapes, the identity it starts from, its share of a ResNet-18's arithmetic."""

import re

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from landuse.config.schema import SlimResNetConfig, TorchvisionConfig
from landuse.models.registry import build_model
from landuse.models.rules import architecture_problems
from landuse.models.slim_resnet import SlimResNet


@pytest.mark.parametrize("image_size", [8, 33, 64])
@pytest.mark.parametrize("blocks", [(1,), (1, 2), (2, 2, 2, 2)])
def test_shapes(image_size: int, blocks: tuple[int, ...]) -> None:
    model = SlimResNet(num_classes=5, width=4, blocks=blocks)
    assert model(torch.randn(2, 3, image_size, image_size)).shape == (2, 5)
    assert sum(isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) for module in model.modules()) == (
        1 + 2 * sum(blocks)
    )


def test_blocks_start_as_the_identity() -> None:
    torch.manual_seed(0)
    model = SlimResNet(num_classes=5, width=4, blocks=(3,)).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.stages(model.stem(images)), model.stem(images))


def test_half_the_width_is_a_quarter_of_the_arithmetic() -> None:
    def flops(config: SlimResNetConfig | TorchvisionConfig) -> int:
        with FlopCounterMode(display=False) as counter:
            build_model(config, 10, 96).eval()(torch.zeros(1, 3, 96, 96))
        return counter.get_total_flops()

    ratio = flops(SlimResNetConfig(width=32)) / flops(TorchvisionConfig(name="resnet18", stem="small"))
    assert 0.24 < ratio < 0.27


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SlimResNetConfig(width=0), "model.width=0: must lie between 1 and 4096"),
        (SlimResNetConfig(blocks=[]), r"model.blocks=\[\]: needs 1 to 6 stages"),
        (SlimResNetConfig(blocks=[1, 0]), r"model.blocks=\[1, 0\]: needs"),
        (SlimResNetConfig(width=1024), "doubled by each of 4 stages exceeds 4096"),
    ],
)
def test_rules(config: SlimResNetConfig, message: str) -> None:
    (problem,) = architecture_problems(config, 64)
    assert re.search(message, problem)
