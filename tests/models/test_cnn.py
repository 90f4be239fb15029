"""The CNN gives logits of the right shape, and its order of pooling and ReLU changes nothing but the time."""

import pytest
import torch
from torch import nn

from landuse.models.cnn import CNN


@pytest.mark.parametrize(("image_size", "depth", "kernel_size"), [(64, 6, 3), (96, 6, 5), (65, 3, 1), (8, 3, 3)])
def test_shapes(image_size: int, depth: int, kernel_size: int) -> None:
    model = CNN(num_classes=5, width=4, depth=depth, kernel_size=kernel_size)
    assert model(torch.randn(2, 3, image_size, image_size)).shape == (2, 5)


def test_channels_double_up_to_eight_times_the_width() -> None:
    convolutions = [module for module in CNN(5, width=4).modules() if isinstance(module, nn.Conv2d)]
    assert [convolution.out_channels for convolution in convolutions] == [4, 8, 16, 32, 32, 32]
    assert all(convolution.bias is None for convolution in convolutions)


def test_output_is_logits_not_probabilities() -> None:
    torch.manual_seed(0)
    logits = CNN(num_classes=5, width=4)(torch.randn(8, 3, 64, 64))
    assert (logits < 0).any()
    assert not torch.allclose(logits.sum(dim=1), torch.ones(8))


def test_pooling_before_relu_is_the_same_function_and_gradient() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 64, 64)
    pool_first = CNN(num_classes=5, width=4, depth=3)
    relu_first = CNN(num_classes=5, width=4, depth=3)
    relu_first.load_state_dict(pool_first.state_dict())
    for block in relu_first.features:
        assert isinstance(block, nn.Sequential)
        block[1], block[2] = nn.ReLU(), nn.MaxPool2d(2)
    outputs = [model(images) for model in (pool_first, relu_first)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for one, other in zip(pool_first.parameters(), relu_first.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model, images = CNN(num_classes=5, width=4, depth=2, dropout=0.5), torch.randn(4, 3, 8, 8)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))
