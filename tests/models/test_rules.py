"""Wrong configurations are refused with cause and cure, without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from landuse.config.schema import CNNConfig, CustomModelConfig, ModelConfig, TorchvisionConfig
from landuse.models.rules import architecture_problems, model_problems, smallest_image


def test_rules_and_description_import_no_torch() -> None:
    program = "import sys, landuse.models.rules, landuse.models.description; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "config", [CNNConfig(), TorchvisionConfig(), TorchvisionConfig(stem="small"), CustomModelConfig(target="a.B")]
)
def test_good_configurations_have_no_problem(config: ModelConfig) -> None:
    assert list(model_problems(config, 64)) == []


@pytest.mark.parametrize(
    ("config", "image_size", "problem"),
    [
        (CNNConfig(depth=7), 100, "needs at least 128 pixels, but images have 100: use model.depth=6 or a larger"),
        (CNNConfig(depth=0), 64, "model.depth=0: must lie between 1 and 12"),
        (CNNConfig(width=0), 64, "model.width=0"),
        (CNNConfig(kernel_size=4), 64, "model.kernel_size=4: must be odd"),
        (CNNConfig(dropout=1.0), 64, "model.dropout=1.0"),
        (TorchvisionConfig(name="ResNet81"), 64, "ResNet81 is not a classifier of torchvision: did you mean resnet18"),
        (TorchvisionConfig(name="?"), 64, "choose one of alexnet, "),
        (TorchvisionConfig(name="swin_t", stem="small"), 64, "model.stem=small replaces the 7x7 first convolution"),
        (TorchvisionConfig(name="vit_b_16"), 100, "a multiple of 16 pixels, not 100: use 96 or 112."),
        (TorchvisionConfig(name="vit_h_14"), 64, "a multiple of 14 pixels, not 64: use 56 or 70."),
        (TorchvisionConfig(name="vit_b_32"), 20, "a multiple of 32 pixels, not 20: use 32."),
        (TorchvisionConfig(name="maxvit_t"), 64, "a multiple of 224 pixels, not 64: use 224."),
        (CustomModelConfig(), 64, "model.target=None: model=custom needs the import path"),
        (CustomModelConfig(target=".MyNet"), 64, "model.target=.MyNet: model=custom needs the import path"),
        (CustomModelConfig(target="MyNet"), 64, "model.target=MyNet: model=custom needs the import path"),
    ],
)
def test_architecture_problem(config: ModelConfig, image_size: int, problem: str) -> None:
    (found,) = architecture_problems(config, image_size)
    assert problem in found


def test_weights_problems(tmp_path: Path) -> None:
    missing = tmp_path / "none.pt"
    (found,) = model_problems(CNNConfig(weights=str(missing)), 64)
    assert f"model.weights={missing}: no such file" in found
    (found,) = model_problems(CNNConfig(weights="DEFAULT"), 64)
    assert "only torchvision's models" in found
    (found,) = model_problems(TorchvisionConfig(freeze_backbone=True), 64)
    assert "model.freeze_backbone=true keeps random features" in found


def test_smallest_image_is_one_pixel_after_the_last_block() -> None:
    assert smallest_image(CNNConfig(depth=6)) == 64
