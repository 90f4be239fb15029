"""Weights are loaded where they fit, and what was not loaded is said; no file can execute anything."""

import logging
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import nn

from landuse.config.schema import CNNConfig, ModelConfig, TorchvisionConfig
from landuse.errors import UserError
from landuse.models.export import save_model
from landuse.models.registry import build_model
from landuse.models.weights import load_weights, read_state_dict

SMALL = CNNConfig(width=4, depth=2)


def build(config: ModelConfig = SMALL, num_classes: int = 5, image_size: int = 64) -> nn.Module:
    return build_model(config, num_classes, image_size)


def assert_equal_states(one: nn.Module, other: nn.Module) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def save_as(kind: str, folder: Path, model: nn.Module) -> Path:
    state = model.state_dict()
    file = folder / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    if kind == "safetensors":
        safetensors.torch.save_file(state, file)
    elif kind == "run folder":
        save_model(folder / "run/model", model, SMALL, list("abcde"), 64, [0.5] * 3, [0.2] * 3, {})
        return folder / "run"
    else:
        prefix = {"ddp": "module.", "compiled": "_orig_mod.", "both": "module._orig_mod."}.get(kind, "")
        state = OrderedDict((prefix + name, tensor) for name, tensor in state.items())
        torch.save({kind: state, "epoch": 3} if kind in ("model", "state_dict") else state, file)
    return file


@pytest.mark.parametrize(
    "kind", ["safetensors", "bare", "model", "state_dict", "ddp", "compiled", "both", "run folder"]
)
def test_every_form_of_file_is_loaded_completely(kind: str, tmp_path: Path) -> None:
    given, model = build(), build()
    report = load_weights(model, save_as(kind, tmp_path, given), 5)
    assert_equal_states(model, given)
    assert (len(report.loaded), report.total) == (14, 14)
    assert report.complete
    assert (report.head, report.unexpected) == ((), ())


def test_report_names_everything_that_was_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = build(num_classes=9).state_dict()
    state["extra"] = state.pop("features.0.3.bias")
    state["features.1.0.weight"] = torch.zeros(8, 4, 5, 5)
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    model = build()
    head_before = model.get_parameter("head.weight").clone()
    with caplog.at_level(logging.INFO):
        report = load_weights(model, tmp_path / "w.safetensors", 5)
    assert torch.equal(model.get_parameter("head.weight"), head_before)
    assert (len(report.loaded), report.total) == (10, 14)
    assert report.head == (
        "head.weight (9x8 in the source, 5x8 in the model)",
        "head.bias (9 in the source, 5 in the model)",
    )
    assert report.mismatched == ("features.1.0.weight (8x4x5x5 in the source, 8x4x3x3 in the model)",)
    assert report.missing == ("features.0.3.bias",)
    assert report.unexpected == ("extra",)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == str(report)
    assert "loaded 10 of 14 tensors. Head of another size, stays as initialised: head.weight (9x8" in str(report)


def test_small_stem_is_reported_as_not_loaded(tmp_path: Path) -> None:
    torch.save(build(TorchvisionConfig(), 1000).state_dict(), tmp_path / "resnet18.pth")
    report = load_weights(build(TorchvisionConfig(stem="small")), tmp_path / "resnet18.pth", 5)
    assert report.mismatched == ("conv1.weight (64x3x7x7 in the source, 64x3x3x3 in the model)",)
    assert (len(report.loaded), report.total) == (119, 122)


def test_position_embeddings_are_interpolated_to_the_image_size(tmp_path: Path) -> None:
    config = TorchvisionConfig(name="vit_b_32")
    given = build(config, image_size=64)
    state = given.state_dict()
    position = state["encoder.pos_embedding"]  # (1, 1 + 2 * 2, 768)
    position[:, 1:] = 2.0
    torch.save(state, tmp_path / "vit.pt")
    model = build(config, image_size=96)
    assert load_weights(model, tmp_path / "vit.pt", 5).complete
    loaded = model.get_parameter("encoder.pos_embedding")
    assert loaded.shape == (1, 1 + 3 * 3, 768)
    assert torch.equal(loaded[:, :1], position[:, :1])
    torch.testing.assert_close(loaded[:, 1:], torch.full((1, 9, 768), 2.0))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("densenet121", "denselayer1.norm.1.", "denselayer1.norm1."),
        ("vit_b_32", "mlp.linear_1.", "mlp.0."),
    ],
)
def test_old_names_in_torchvisions_files_are_understood(name: str, old: str, new: str, tmp_path: Path) -> None:
    config = TorchvisionConfig(name=name)
    given, model = build(config), build(config)
    state = given.state_dict()
    renamed = OrderedDict((key.replace(new, old), tensor) for key, tensor in state.items())
    # An old file has old version numbers, too, where torch's loading hooks look for them.
    renamed._metadata = OrderedDict()  # type: ignore[attr-defined]
    assert renamed.keys() != state.keys()
    torch.save(renamed, tmp_path / "old.pth")
    report = load_weights(model, tmp_path / "old.pth", 5)
    assert report.complete
    assert not report.unexpected
    assert_equal_states(model, given)


def test_weights_without_version_numbers_suit_a_model_that_asks_for_them(tmp_path: Path) -> None:
    given = build(TorchvisionConfig(name="mnasnet0_5"))
    safetensors.torch.save_file(given.state_dict(), tmp_path / "mnasnet.safetensors")
    assert load_weights(build(TorchvisionConfig(name="mnasnet0_5")), tmp_path / "mnasnet.safetensors", 5).complete


def test_default_loads_torchvisions_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    state = build(TorchvisionConfig(), 1000).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda url, **options: state)
    model = build(TorchvisionConfig())
    report = load_weights(model, "DEFAULT", 5, torchvision_name="resnet18")
    assert "ImageNet weights of resnet18: loaded 120 of 122 tensors" in str(report)
    assert torch.equal(model.get_parameter("conv1.weight"), state["conv1.weight"])


def test_failed_download_says_where_to_put_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(url: str, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_weights(build(TorchvisionConfig()), "DEFAULT", 5, torchvision_name="resnet18")
    for part in (
        "The weights of resnet18 could not be had from https://",
        "no route to host",
        str(tmp_path / "checkpoints/resnet18"),
        "model.weights=PATH",
    ):
        assert part in str(caught.value)


class Evil:
    """Unpickling it creates the file named by EVIL_FILE."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ('touch "$EVIL_FILE"',)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_refused_and_not_executed(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "executed"
    monkeypatch.setenv("EVIL_FILE", str(trace))
    pickle.loads(pickle.dumps(Evil()))
    assert trace.exists()  # the trap works
    trace.unlink()
    if legacy:
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    else:
        torch.save({"model": {"weight": torch.zeros(3)}, "config": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil.pt was not opened: .* could run code"):
        load_weights(build(), tmp_path / "evil.pt", 5)
    assert not trace.exists()


def test_wrong_files_are_explained(tmp_path: Path) -> None:
    for name in ("whole.pt", "whole.safetensors"):
        saved = save_as("bare" if name.endswith("pt") else "safetensors", tmp_path, build())
        (tmp_path / name).write_bytes(saved.read_bytes())
    contents = {
        "half.pt": (tmp_path / "whole.pt").read_bytes()[:5000],
        "half.safetensors": (tmp_path / "whole.safetensors").read_bytes()[:-1],
        "empty.pt": b"",
        "empty.safetensors": b"",
        "text.pth": b"hello world",
        "weights.bin": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}.*(truncated or damaged|only)"):
            read_state_dict(tmp_path / name)


def test_files_cut_anywhere_are_explained(tmp_path: Path) -> None:
    torch.save(build().state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for whole in (save_as("bare", tmp_path, build()), tmp_path / "old.pt"):
        content = whole.read_bytes()
        for length in range(0, len(content) - 1, len(content) // 40):
            (tmp_path / "cut.pt").write_bytes(content[:length])
            with pytest.raises(UserError, match=r"cut\.pt"):
                read_state_dict(tmp_path / "cut.pt")


def test_missing_file_and_folder_without_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"model.weights={tmp_path}/none.pt: no such file"):
        load_weights(build(), tmp_path / "none.pt", 5)
    with pytest.raises(UserError, match="holds no finished model"):
        load_weights(build(), tmp_path, 5)


def test_pickle_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        load_weights(build(), tmp_path / "w.pt", 5)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"none of its tensors fits the model. It has 0.weight, 0.bias; the model has"):
        load_weights(build(), tmp_path / "w.pt", 5)


def test_default_needs_a_torchvision_model() -> None:
    with pytest.raises(UserError, match="only torchvision's models have such weights"):
        load_weights(build(), "DEFAULT", 5)
