"""Freezing keeps the backbone, statistics included, bit for bit."""

import pytest
import torch
from torch import nn

from landuse.config.schema import CNNConfig, ModelConfig, TorchvisionConfig
from landuse.errors import UserError
from landuse.models.head import find_head, freeze_backbone, set_train_mode
from landuse.models.registry import build_model

HEADS = {
    "resnet18": "fc",
    "squeezenet1_1": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "shufflenet_v2_x0_5": "fc",
    "densenet121": "classifier",
    "swin_t": "head",
}


@pytest.mark.parametrize(("name", "head"), HEADS.items())
def test_head_is_found(name: str, head: str) -> None:
    assert find_head(build_model(TorchvisionConfig(name=name), 5, 32), 5) == head


@pytest.mark.parametrize("config", [CNNConfig(width=4), TorchvisionConfig(name="mobilenet_v3_small")])
def test_only_the_head_changes(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = build_model(config, 5, 64)
    freeze_backbone(model, 5)
    set_train_mode(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # Weight decay, because it would change a parameter that is given to the optimiser with a gradient of zeros.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(torch.randn(4, 3, 64, 64)).square().sum().backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    head = find_head(model, 5)
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_unfrozen_model_trains_throughout() -> None:
    model = build_model(CNNConfig(width=4), 5, 64).eval()
    set_train_mode(model)
    assert all(module.training for module in model.modules())


def test_dropout_in_front_of_the_head_stays_active() -> None:
    model = build_model(CNNConfig(width=4, dropout=0.5), 5, 64)
    freeze_backbone(model, 5)
    set_train_mode(model)
    assert {name for name, module in model.named_modules() if module.training} == {"", "pool", "dropout", "head"}


def test_model_without_a_recognisable_head() -> None:
    with pytest.raises(UserError, match="Sequential has no linear layer or 1x1 convolution with 5 outputs"):
        freeze_backbone(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten()), 5)
