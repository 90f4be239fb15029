"""A model.json that breaks any rule is refused in one sentence that names the file."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from landuse.config.schema import CNNConfig, CustomModelConfig, ModelConfig, SlimResNetConfig, TorchvisionConfig
from landuse.errors import UserError
from landuse.models.description import architecture_of, model_fingerprint, model_folder, read_description

GOOD: dict[str, Any] = {
    "format": "landuse-model",
    "format_version": 1,
    "architecture": {"kind": "cnn", "name": "cnn", "width": 4, "depth": 2, "kernel_size": 3, "dropout": 0},
    "classes": ["a", "b"],
    "image_size": 64,
    "normalisation": {"mean": [0, 0.5, 0.5], "std": [1, 0.2, 0.2], "scale": "0..1", "channels": "RGB"},
    "num_parameters": 10,
    "weights_sha256": "0" * 64,
    "extra": {},
}


def write(folder: Path, content: object) -> Path:
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(width=3, depth=2),
        SlimResNetConfig(width=3, blocks=[1, 2]),
        TorchvisionConfig(name="swin_t", params={"dropout": 0.1}),
        CustomModelConfig(target="a.B", params={"layers": [1, 2]}),
    ],
)
def test_architecture_comes_back(config: ModelConfig, tmp_path: Path) -> None:
    content = GOOD | {"architecture": architecture_of(config)}
    description = read_description(write(tmp_path, content))
    assert description.config == config
    assert description.info == content


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("format", "onnx", "not the format 'landuse-model'"),
        ("format_version", 2, "format_version is 2, but this program reads 1"),
        ("surplus", 1, "model.json has the unknown key surplus"),
        ("image_size", 7, "image_size must be an integer from 8 to 4096, not 7"),
        ("image_size", 4097, "not 4097"),
        ("image_size", 64.0, "not 64.0"),
        ("image_size", True, "not True"),
        ("classes", ["a"], "a list of 2 to 10000 names"),
        ("classes", "ab", "a list of 2 to 10000 names"),
        ("classes", [str(i) for i in range(10_001)], "a list of 2 to 10000 names"),
        ("classes", ["a", "a"], "two classes have the same name"),
        ("classes", ["a", " "], "every class needs a name"),
        ("classes", ["a", 1], "every class needs a name"),
        ("num_parameters", 0, "num_parameters must be a positive integer"),
        ("weights_sha256", "abc", "64 hexadecimal digits"),
        ("extra", [], "extra must be an object"),
        ("extra.gsd", "0.3", "gsd must lie above 0"),
        ("extra.gsd", float("nan"), "gsd must lie above 0"),
        ("extra.tile_size", 256.0, "tile_size must lie between 1 and"),
        ("normalisation", None, "normalisation must be an object"),
        ("normalisation.mean", [0.5, 0.5], "normalisation.mean must be three finite numbers"),
        ("normalisation.mean", [0.5, 0.5, float("nan")], "normalisation.mean must be three finite numbers"),
        ("normalisation.mean", [0.5, 0.5, 10**400], "normalisation.mean must be three finite numbers"),
        ("normalisation.std", [1, 1, float("inf")], "normalisation.std must be three finite numbers"),
        ("normalisation.std", ["1", 1, 1], "normalisation.std must be three finite numbers"),
        ("normalisation.std", [1, 0, 1], "normalisation.std must be positive"),
        ("normalisation.scale", "0..255", "normalisation.scale must be 0..1"),
        ("normalisation.channels", "BGR", "normalisation.channels must be RGB"),
        ("architecture", [], "architecture.kind must be one of cnn, slim_resnet, torchvision, custom"),
        ("architecture.kind", ["cnn"], "architecture.kind must be one of"),
        ("architecture.kind", "pickle", "not 'pickle'"),
        ("architecture.weights", "DEFAULT", "architecture has the unknown key weights"),
        ("architecture.width", "4", "architecture.width must not be '4'"),
        ("architecture.width", 4.0, "architecture.width must not be 4.0"),
        ("architecture.width", 10**9, "model.width=1000000000: must lie between 1 and 4096"),
        ("architecture.dropout", float("nan"), "model.dropout=nan: must lie in"),
        ("architecture.depth", 7, "needs at least 128 pixels"),
    ],
)
def test_broken_rule(key: str, value: object, problem: str, tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD)
    *parents, last = key.split(".")
    target = content[parents[0]] if parents else content
    target[last] = value
    with pytest.raises(UserError) as caught:
        read_description(write(tmp_path, content))
    assert problem in str(caught.value)
    assert str(tmp_path / "model.json") in str(caught.value)
    assert "Export the model again" in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        ({"name": "resnet18", "stem": "huge", "params": {}}, "architecture.stem must not be 'huge'"),
        ({"name": "resnet18", "stem": "small", "params": []}, "architecture.params must not be"),
        ({"name": "resnet18", "stem": "small"}, "architecture lacks params"),
        ({"name": "resnet1", "stem": "standard", "params": {}}, "not a classifier of torchvision"),
    ],
)
def test_broken_torchvision_architecture(architecture: dict[str, Any], problem: str, tmp_path: Path) -> None:
    content = GOOD | {"architecture": {"kind": "torchvision"} | architecture}
    with pytest.raises(UserError, match=problem):
        read_description(write(tmp_path, content))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"null"])
def test_file_that_is_no_description(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(UserError, match=r"model.json: .*Export the model again"):
        read_description(tmp_path)


def test_missing_description(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.json: no such file"):
        read_description(tmp_path)


def test_model_folder_is_the_folder_or_the_runs_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write(tmp_path / "model", GOOD)
    assert model_folder(tmp_path) == model_folder(tmp_path / "model") == tmp_path / "model"
    with pytest.raises(UserError, match="holds no finished model"):
        model_folder(tmp_path / "other")


def test_fingerprint_is_the_sha256_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    assert model_fingerprint(tmp_path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        model_fingerprint(tmp_path / "none")
