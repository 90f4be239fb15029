"""torchvision's classifiers take any number of classes and sizes, and give logits."""

import pytest
import torch
from torch import nn

from landuse.config.schema import TorchvisionConfig
from landuse.models.names import TORCHVISION_CLASSIFIERS
from landuse.models.registry import build_model
from landuse.models.rules import has_large_stem

SHIPPED = ["resnet18", "resnet50", "efficientnet_b0", "mobilenet_v3_small", "convnext_tiny", "vit_b_16", "swin_t"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_train_at_two_sizes(name: str) -> None:
    for image_size in (64, 96):
        model = build_model(TorchvisionConfig(name=name), 5, image_size)
        assert model.training
        logits = model(torch.randn(2, 3, image_size, image_size))
        assert logits.shape == (2, 5)
        assert not torch.allclose(logits.sum(dim=1), torch.ones(2))  # no softmax
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION_CLASSIFIERS)
def test_every_classifier_of_torchvision(name: str) -> None:
    image_size = 224 if name == "maxvit_t" else 98 if name == "vit_h_14" else 96
    model = build_model(TorchvisionConfig(name=name), 5, image_size)
    assert model(torch.randn(2, 3, image_size, image_size)).shape == (2, 5)
    stem = getattr(model, "conv1", None)
    assert has_large_stem(name) == (isinstance(stem, nn.Conv2d) and stem.kernel_size == (7, 7))


def test_small_stem_halves_once_with_a_3x3_convolution() -> None:
    model = build_model(TorchvisionConfig(name="resnet18", stem="small"), 5, 32)
    stem = model.conv1
    assert isinstance(stem, nn.Conv2d)
    assert (stem.kernel_size, stem.stride, stem.padding, stem.bias) == ((3, 3), (2, 2), (1, 1), None)


def test_torchvision_params_reach_the_builder() -> None:
    model = build_model(TorchvisionConfig(name="mobilenet_v3_small", params={"dropout": 0.4}), 5, 64)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.4]
