"""Networks become smaller and still answer."""

from pathlib import Path

import pytest
import torch
from torch import nn

from landuse.config import compose
from landuse.config.schema import Config
from landuse.data.pack import Pack
from landuse.errors import UserError
from landuse.exporting.data import packed_before
from landuse.exporting.pruning import num_nonzero, pruned
from landuse.models.export import load_model
from landuse.runs import read_config
from tests.exporting.conftest import convnext, named, seeded, vit


@pytest.fixture(scope="module")
def pack(place: Path) -> Pack:
    found = packed_before(place / "data", load_model(place / "tiny"))
    assert found is not None
    return found


@pytest.fixture
def config(place: Path) -> Config:
    config = compose.from_tree(read_config(place / "tiny"))
    config.export.prune_epochs = 0
    return config


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["cnn", "slim_resnet", "mobilenet_v3_small"])
def test_channels_are_taken_in_blocks_and_all_classes_stay(name: str, config: Config, pack: Pack) -> None:
    model = seeded(named(name), num_classes=4)
    before = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    smaller = pruned(config, model, pack)
    after = [module.out_channels for module in smaller.modules() if isinstance(module, nn.Conv2d)]
    assert num_parameters(smaller) < 0.85 * num_parameters(model)
    assert all(0 < now <= then for then, now in zip(before, after, strict=True))
    assert all(now % 16 == 0 for then, now in zip(before, after, strict=True) if then % 16 == 0 and then >= 32)
    with torch.no_grad():
        assert smaller(torch.zeros(2, 3, 16, 16)).shape == (2, 4)
    assert before == [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]


def test_networks_with_layer_scales_are_taken(config: Config, pack: Pack) -> None:
    model = seeded(convnext, num_classes=4)
    assert num_parameters(pruned(config, model, pack)) < num_parameters(model)


def test_the_share_that_goes_is_a_choice(config: Config, pack: Pack) -> None:
    sizes = []
    for config.export.prune_amount in (0.1, 0.5, 0.9):
        sizes.append(num_parameters(pruned(config, seeded(named("slim_resnet"), 4), pack)))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (seeded(vit, 4), "network with attention"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "no recognisable head"),
    ],
)
def test_what_has_no_channels_to_take_is_refused_with_a_cure(
    model: nn.Module, problem: str, config: Config, pack: Pack
) -> None:
    with pytest.raises(UserError, match=f"{problem}.*export.prune=magnitude"):
        pruned(config, model, pack)


def test_the_smallest_weights_are_zero_and_stay_so_in_training(place: Path, config: Config, pack: Pack) -> None:
    config.export.prune, config.export.prune_amount, config.export.prune_epochs = "magnitude", 0.5, 1
    config.trainer.ema = 0.9  # which no average of so short a training uses
    model = load_model(place / "tiny").model
    smaller = pruned(config, model, pack)
    assert num_parameters(smaller) == num_parameters(model)
    kernels = {name: tensor for name, tensor in smaller.state_dict().items() if name in dict(model.named_parameters())}
    convolutions = [tensor for name, tensor in kernels.items() if tensor.ndim == 4]
    zeros = sum(int((tensor == 0).sum()) for tensor in convolutions)
    assert zeros == round(0.5 * sum(tensor.numel() for tensor in convolutions))
    assert (smaller.get_parameter("head.weight") != 0).all()
    assert num_nonzero(smaller) == num_parameters(smaller) - zeros
    assert any((smaller.state_dict()[name] != tensor).any() for name, tensor in model.state_dict().items())
