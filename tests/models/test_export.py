"""An exported model comes back bit for bit, and a damaged or forged folder is refused without executing any of it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from landuse.config.schema import CNNConfig, CustomModelConfig, ModelConfig, TorchvisionConfig
from landuse.errors import UserError
from landuse.models.description import model_fingerprint
from landuse.models.export import load_model, save_model
from landuse.models.registry import build_model

CLASSES = ["forest", "Wohngebiet dünn", "住宅"]
MEAN, STD = [0.4, 0.45, 0.3], [0.2, 0.19, 0.21]
CUSTOM = CustomModelConfig(target="exported_nets.Tied")
CUSTOM_CODE = """
from torch import nn

class Tied(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.head = nn.Linear(3, num_classes)
    def forward(self, images):
        return self.head(self.second(self.first(images.mean((2, 3)))))
"""


def export(folder: Path, config: ModelConfig, image_size: int = 64) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(config, len(CLASSES), image_size)
    with torch.no_grad():
        model(torch.randn(4, 3, image_size, image_size))  # so that batch-norm statistics differ from their start
    save_model(folder, model, config, CLASSES, image_size, MEAN, STD, {"epoch": 7})
    return model


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    change(content)
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small exported CNN."""
    export(tmp_path / "model", CNNConfig(width=4, depth=2))
    return tmp_path / "model"


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(width=4, depth=3, kernel_size=5, dropout=0.1),
        TorchvisionConfig(name="resnet18", stem="small"),
        TorchvisionConfig(name="mobilenet_v3_small", params={"dropout": 0.3}),
        TorchvisionConfig(name="mnasnet0_5"),
        TorchvisionConfig(name="regnet_y_400mf"),
    ],
)
def test_round_trip_is_bit_exact(config: ModelConfig, tmp_path: Path) -> None:
    model = export(tmp_path / "model", config).eval()
    random_state = torch.get_rng_state()
    loaded = load_model(tmp_path)  # the run folder
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not loaded.model.training
    assert (loaded.classes, loaded.image_size) == (tuple(CLASSES), 64)
    assert (loaded.mean, loaded.std) == (tuple(MEAN), tuple(STD))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(images), model(images))


def test_description_holds_what_other_programs_need(tmp_path: Path) -> None:
    config = CNNConfig(width=4, depth=2, weights="/home/someone/private.pt", freeze_backbone=True)
    model = build_model(config, 3, 64).to(memory_format=torch.channels_last)
    save_model(tmp_path, model, config, CLASSES, 64, MEAN, STD, {"epoch": 7})
    content = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert content == {
        "format": "landuse-model",
        "format_version": 1,
        "architecture": {"kind": "cnn", "name": "cnn", "width": 4, "depth": 2, "kernel_size": 3, "dropout": 0.0},
        "classes": CLASSES,
        "image_size": 64,
        "normalisation": {"mean": MEAN, "std": STD, "scale": "0..1", "channels": "RGB"},
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights_sha256": model_fingerprint(tmp_path),
        "extra": {"epoch": 7},
    }
    assert load_model(tmp_path).info == content
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", "model.safetensors"}  # nothing temporary


@pytest.mark.parametrize(
    ("classes", "mean", "extra"), [(["a", "a"], MEAN, {}), (CLASSES, [float("nan")] * 3, {}), (CLASSES, MEAN[:2], {})]
)
def test_what_could_not_be_loaded_is_not_saved(
    classes: list[str], mean: list[float], extra: dict[str, Any], tmp_path: Path
) -> None:
    config = CNNConfig(width=4, depth=2)
    with pytest.raises(ValueError, match=r"class|mean"):
        save_model(tmp_path, build_model(config, len(classes), 64), config, classes, 64, mean, STD, extra)
    assert not list(tmp_path.iterdir())


def test_custom_model_needs_the_users_own_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exported_nets.py").write_text(CUSTOM_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    model = export(tmp_path / "model", CUSTOM)
    monkeypatch.delitem(sys.modules, "exported_nets")
    with pytest.raises(UserError, match=r"add: model=custom model.target=exported_nets.Tied"):
        load_model(tmp_path / "model")
    assert "exported_nets" not in sys.modules
    loaded = load_model(tmp_path / "model", CUSTOM).model
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert loaded.get_parameter("second.weight") is loaded.get_parameter("first.weight")


def test_name_from_the_file_is_never_imported(folder: Path) -> None:
    def forge(content: dict[str, Any]) -> None:
        content["architecture"] = {"kind": "torchvision", "name": "os.system", "stem": "standard", "params": {}}

    rewrite(folder, forge)
    with pytest.raises(UserError, match=r"model.json: model.name=os.system is not a classifier of torchvision"):
        load_model(folder)


def test_contradictions_between_the_two_files(folder: Path) -> None:
    def refused(problem: str, tensors: dict[str, torch.Tensor], num_parameters: int | None = None) -> None:
        safetensors.torch.save_file(tensors, folder / "model.safetensors")

        def update(content: dict[str, Any]) -> None:
            content["weights_sha256"] = model_fingerprint(folder)
            content["num_parameters"] = num_parameters or content["num_parameters"]

        rewrite(folder, update)
        with pytest.raises(UserError, match=problem):
            load_model(folder)

    tensors = load_model(folder).model.state_dict()
    bias = tensors["head.bias"]
    refused("head.bias has values that are not finite", tensors | {"head.bias": bias * torch.nan})
    refused(
        r"head.bias is torch.float32 \[2\], but the architecture has torch.float32 \[3\]",
        tensors | {"head.bias": bias[:2]},
    )
    refused(r"head.bias is torch.float16 \[3\]", tensors | {"head.bias": bias.half()})
    refused("the architecture has no tensor more", tensors | {"more": bias.clone()})
    refused("the weights lack tensor head.bias", {name: tensors[name] for name in tensors.keys() - {"head.bias"}})
    refused("num_parameters is not", tensors, num_parameters=12)


def test_damaged_weights_and_missing_files(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="the sha256 of the weights is not the one described"):
        load_model(folder)
    rewrite(folder, lambda content: content.update(weights_sha256=model_fingerprint(folder)))
    with pytest.raises(UserError, match=r"model.safetensors is damaged .*Export the model again"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"has no model.safetensors: copy the whole folder"):
        load_model(folder)
    (folder / "model.json").unlink()
    with pytest.raises(UserError, match=r"holds no finished model"):
        load_model(folder)
