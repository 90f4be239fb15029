"""Every kind of model is built, and what cannot be built is refused in words."""

import pytest
import torch

from landuse.config.schema import CNNConfig, ModelConfig, TorchvisionConfig
from landuse.errors import UserError
from landuse.models.registry import build_model


@pytest.mark.parametrize("config", [CNNConfig(width=4), TorchvisionConfig(name="squeezenet1_1")])
def test_initialisation_follows_torchs_seed(config: ModelConfig) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build_model(config, 5, 64).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_building_leaves_batch_norm_statistics_at_their_start() -> None:
    model = build_model(CNNConfig(width=4), 5, 64)
    assert all(not value.any() for name, value in model.state_dict().items() if name.endswith("running_mean"))


@pytest.mark.parametrize(
    ("config", "image_size", "message"),
    [
        (
            ModelConfig(kind="tree"),
            64,
            "kind=tree is unknown: choose one of cnn, slim_resnet, torchvision, custom",
        ),
        (CNNConfig(depth=7), 64, "needs at least 128 pixels"),
        (TorchvisionConfig(params={"widht": 1}), 64, r"do not fit resnet18: .* unexpected keyword argument 'widht'"),
        (TorchvisionConfig(params={"num_classes": 3}), 64, "multiple values for keyword argument 'num_classes'"),
        (TorchvisionConfig(params={"weights": "DEFAULT"}), 64, "multiple values for keyword argument 'weights'"),
        (TorchvisionConfig(params={"width_per_group": 128}), 64, "BasicBlock only supports groups=1"),
        (
            TorchvisionConfig(name="inception_v3"),
            64,
            r"inception_v3 fails on images \(2, 3, 64, 64\): .*data.image_size",
        ),
    ],
)
def test_what_cannot_be_built_is_explained(config: ModelConfig, image_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(config, 5, image_size)
