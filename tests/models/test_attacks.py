"""Weights, checkpoints and exported models made by an attacker: refused in a sentence, nothing executed or imported."""

import json
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from landuse.config.schema import CNNConfig, TorchvisionConfig
from landuse.errors import UserError
from landuse.models.export import load_model, save_model
from landuse.models.registry import build_model
from landuse.models.torch_files import read_torch_file
from landuse.models.weights import load_weights, read_state_dict
from landuse.training import checkpoint
from tests.forgery import Call, Storage, encrypt, peak_mb, pickled, run_code, tensor, torch_zip

SMALL = CNNConfig(width=4, depth=2)
ONE = {"0": b"abcd"}  # a storage of one number


def saved(content: Any) -> Callable[[Path], Any]:
    return lambda path: torch.save(content, path)


def forged(content: Any, storages: dict[str, bytes] | None = None, **settings: Any) -> Callable[[Path], Any]:
    return lambda path: torch_zip(path, content, storages, **settings)


def raw(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def encrypted(path: Path) -> None:
    torch_zip(path, {"w": 1})
    encrypt(path)


def nested_list(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def sparse() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.sparse_coo_tensor([[0]], [1.0], (2**40,), check_invariants=False)


PT_FILES = {
    "beyond the file": forged({"w": tensor(Storage("0", 10**7), (10**7,), (1,))}, ONE),
    "an exabyte": forged({"w": tensor(Storage("0", 2**58), (2**58,), (1,))}, ONE),
    "beyond its storage": forged({"w": tensor(Storage("0", 1), (2**33,), (1,))}, ONE),
    "behind its storage": forged({"w": tensor(Storage("0", 1), (1,), (1,), 2**40)}, ONE),
    "one number as many": forged({"w": tensor(Storage("0", 1), (2**40,), (0,))}, ONE),
    "negative": forged({"w": tensor(Storage("0", 1), (1,), (1,), -1)}, ONE),
    "a million dimensions": forged({"w": tensor(Storage("0", 1), (1,) * 10**5, (1,) * 10**5)}, ONE),
    "two kinds": forged({"a": tensor(Storage("0", 1), (), ()), "b": Storage("0", 1, torch.IntStorage)}, ONE),
    "all memory as bytes": forged({"w": Call(bytearray, 2**40)}),
    "all memory as a tensor": forged({"w": Call(torch.FloatTensor, 2**34)}),
    "copies": forged({"w": Call(torch.Size, (1,) * 10)}),
    "a list as code": forged({"w": Call(set, [1])}),
    "text as tensor": forged({"w": Call(torch._utils._rebuild_tensor_v2, "x", 0, (1,), (1,))}),
    "keys that take for ever": forged(b"\x80\x02})" + b"q\0h\0\x86" * 60 + b"K\x01s."),  # nested pairs
    "too long": forged(b"\x80\x02" + b"]0" * 2_000_000 + b"N."),
    "bytes of any length": raw(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
    "fills a tensor": forged(
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0"
        b"cpuK\x01tQK\0))tRK\0K\x01s.",
        ONE,
    ),
    "sets an attribute": forged(b"\x80\x02ccollections\nOrderedDict\n}X\x01\0\0\0aK\x01sb."),
    "meta": saved({"w": torch.empty(2**40, device="meta")}),
    "sparse": saved({"w": sparse()}),
    "quantised": lambda path: saved({"w": torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8)})(path),
    "complex": saved({"w": torch.ones(3, dtype=torch.complex64)}),
    "objects of NumPy": saved({"w": np.array([{}], dtype=object)}),
    "a whole module": saved(nn.Linear(2, 2)),
    "TorchScript": lambda path: torch.jit.save(torch.jit.script(nn.ReLU()), str(path)),
    "another archive": lambda path: zipfile.ZipFile(path, "w").writestr("models/model.json", b"{}"),
    "bomb": forged(
        {"w": tensor(Storage("0", 2**24), (2**24,), (1,))}, {"0": bytes(2**26)}, method=zipfile.ZIP_DEFLATED
    ),
    "twice": forged({"w": tensor(Storage("0", 1), (1,), (1,))}, ONE, more=[("archive/data/0", b"efgh")]),
    "encrypted": encrypted,
    "big-endian": forged({}, more=[("archive/byteorder", b"big")]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attack", PT_FILES)
def test_pt_file(attack: str, tmp_path: Path) -> None:
    file = tmp_path / "evil.pt"
    PT_FILES[attack](file)
    before = peak_mb()
    with pytest.raises(UserError, match=rf"^{file} was not opened: .*Give a file that torch.save\(model.state_dict"):
        read_state_dict(file)
    with pytest.raises(UserError, match=rf"{file} is damaged or is no checkpoint: resume from another"):
        checkpoint.load(file, {})
    assert peak_mb() - before < 300


@pytest.mark.parametrize("where", ["top", "value", "key of the file", "hook", "legacy", "bare", "protocol 4"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_code_is_never_executed(where: str, suffix: str, tmp_path: Path) -> None:
    marker, file = tmp_path / "executed", tmp_path / f"evil{suffix}"
    code = run_code(marker)
    pickle.loads(pickle.dumps(code))
    assert marker.exists()  # the trap works
    marker.unlink()
    hooked = Call(torch._utils._rebuild_tensor_v2, Storage("0", 1), 0, (1,), (1,), False, code)
    if where == "legacy":
        torch.save({"w": torch.ones(1), "x": code}, file, _use_new_zipfile_serialization=False)
    elif where in ("bare", "protocol 4"):
        file.write_bytes(pickled(code) if where == "bare" else pickle.dumps(code, protocol=4))
    elif where == "key of the file":
        torch_zip(file, {"w": Storage(code, 1)}, ONE)  # type: ignore[arg-type]
    else:
        torch_zip(file, {"top": code, "value": {"model": {"w": code}}, "hook": {"w": hooked}}[where], ONE)
    with pytest.raises(UserError, match=rf"^{file} "):
        read_state_dict(file)
    with pytest.raises(UserError, match="damaged or is no checkpoint"):
        checkpoint.load(file, {})
    assert not marker.exists()


@pytest.mark.parametrize("old", [False, True])
def test_what_torch_saves_comes_back(old: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {
        "model": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(torch.bfloat16).state_dict(),
        "views": [base, base.permute(2, 0, 1), base[1:], base[:, ::2], torch.zeros(()), torch.zeros(0, 3)],
        "parameter": nn.Parameter(torch.ones(2, dtype=torch.float64)),
        "plain": {3: (1, -(2**40), 2.5, None, True, "ü", (1, 2, 3, 4))},
    }
    torch.save(content, tmp_path / "file.pt", _use_new_zipfile_serialization=not old)
    loaded = read_torch_file(tmp_path / "file.pt")
    assert loaded["plain"] == content["plain"]
    assert loaded["model"]._metadata == content["model"]._metadata
    pairs = [*zip(loaded["views"], content["views"], strict=True), (loaded["parameter"], content["parameter"])]
    pairs += [(loaded["model"][name], given) for name, given in content["model"].items()]
    for got, given in pairs:
        assert torch.equal(got, given) and got.dtype == given.dtype and got.stride() == given.stride()
    loaded["views"][0][1, 0, 0] = 99
    assert loaded["views"][2][0, 0, 0] == 99  # what shared its storage still does


def safetensors_file(header: Any, data: bytes = b"", length: int | None = None) -> Callable[[Path], Any]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return raw(struct.pack("<Q", len(text) if length is None else length) + text + data)


def bias(**changes: Any) -> dict[str, Any]:
    return {"head.bias": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]} | changes}


SAFETENSORS_FILES = {
    "endless header": safetensors_file({}, length=2**60),
    "header beyond the file": safetensors_file({}, length=100),
    "no JSON": safetensors_file(b"\xff" * 20),
    "deep": safetensors_file(b'{"a":' + b"[" * 10**5),
    "overlap": safetensors_file(bias() | {"b": bias()["head.bias"]}, bytes(20)),
    "beyond the file": safetensors_file(bias(data_offsets=[0, 1200]), bytes(20)),
    "hole": safetensors_file(bias(data_offsets=[20, 40]), bytes(40)),
    "overflow": safetensors_file(bias(shape=[2**62, 2**62]), bytes(20)),
    "unknown type": safetensors_file(bias(dtype="PICKLE"), bytes(20)),
    "odd metadata": safetensors_file({"__metadata__": {"a": {"b": 1}}} | bias(), bytes(20)),
    "grown": safetensors_file(bias(), bytes(40)),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("attack", SAFETENSORS_FILES)
def test_safetensors_file(attack: str, tmp_path: Path) -> None:
    file = tmp_path / "evil.safetensors"
    SAFETENSORS_FILES[attack](file)
    with pytest.raises(UserError, match=rf"^{file} cannot be read .*Copy or download it again"):
        load_weights(build_model(SMALL, 5, 64), file, 5)


@pytest.mark.parametrize("name", ["pipe.pt", "device.pth"])
def test_a_pipe_or_device_as_weights_or_checkpoint_is_not_waited_for(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    os.mkfifo(file) if "pipe" in name else file.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="no regular file"):
        read_state_dict(file)
    with pytest.raises(UserError, match="damaged or is no checkpoint"):
        checkpoint.load(file, {})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (torch.ones(5, dtype=torch.int8), r"head.bias holds torch.int8 where the model has torch.float32"),
        (torch.ones(5, dtype=torch.bool), r"head.bias holds torch.bool"),
        (torch.ones(5, dtype=torch.complex64), r"head.bias holds torch.complex64"),
        (torch.full((5,), torch.nan), "head.bias has values that are not finite"),
        (torch.full((5,), 1e300, dtype=torch.float64), "head.bias has values that are not finite"),
    ],
)
def test_values_that_no_weights_have(value: torch.Tensor, problem: str, tmp_path: Path) -> None:
    model, file = build_model(SMALL, 5, 64), tmp_path / "w.safetensors"
    before = {name: own.clone() for name, own in model.state_dict().items()}
    safetensors.torch.save_file(model.state_dict() | {"head.bias": value}, file)
    with pytest.raises(UserError, match=problem):
        load_weights(model, file, 5)
    assert all(torch.equal(before[name], own) for name, own in model.state_dict().items())


@pytest.fixture
def model_json(tmp_path: Path) -> Callable[..., str]:
    """Change keys of an exported model's description; the message of its refusal."""
    config = TorchvisionConfig(name="mobilenet_v2")
    save_model(tmp_path, build_model(config, 3, 32), config, list("abc"), 32, [0.5] * 3, [0.2] * 3, {})

    def refusal(key: str, value: Any) -> str:
        content = json.loads((tmp_path / "model.json").read_text())
        *parents, last = key.split(".")
        target = content
        for parent in parents:
            target = target[parent]
        target[last] = value
        (tmp_path / "model.json").write_text(json.dumps(content))
        with pytest.raises(UserError) as caught:
            load_model(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}") and "xport " in str(caught.value)
        return str(caught.value)

    return refusal


DESCRIPTIONS: list[tuple[str, Any, str]] = [
    ("_target_", "evil_module.Net", "unknown key _target_"),
    ("architecture._target_", "evil_module.Net", "architecture has the unknown key _target_"),
    ("architecture.params", {"_target_": "evil_module.Net"}, "unexpected keyword argument '_target_'"),
    ("architecture.params", {"weights": "DEFAULT"}, "multiple values for keyword argument 'weights'"),
    ("architecture.params", {"pretrained": True}, "unexpected keyword argument 'pretrained'"),
    ("architecture.params", {"num_classes": 7}, "multiple values for keyword argument 'num_classes'"),
    ("architecture.params", {"norm_layer": "evil_module.Net"}, "'str' object is not callable"),
    ("architecture.params", {"width_mult": 1e300}, "no model can be built"),
    ("architecture.params", {"width_mult": 20}, "num_parameters is not"),
    ("architecture.params", {"inverted_residual_setting": [[1, 16, 10**9, 1]]}, "more than 20,000 tensors"),
    ("architecture.params", {"round_nearest": 0}, "do not fit mobilenet_v2"),
    ("architecture.name", "../../evil_module", "not a classifier of torchvision"),
    ("architecture", {"kind": "cnn", "name": "cnn", "width": 4096, "depth": 5, "kernel_size": 31, "dropout": 0.0}, "n"),
    ("num_parameters", 10**30, "num_parameters is not"),
    ("format_version", True, "format_version is True"),
    ("normalisation.std", [1e-300] * 3, "std must be positive"),
    ("classes", list("abcd"), "num_parameters is not"),
    ("extra.x", nested_list(30), "nested more than 20 times"),
    ("weights_sha256", "0" * 64, "the sha256 of the weights is not the one described"),
]


@pytest.mark.parametrize(("key", "value", "problem"), DESCRIPTIONS)
def test_description(
    key: str, value: Any, problem: str, model_json: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", None)  # a download would fail
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_module.py").write_text("raise SystemExit")
    before = peak_mb()
    assert problem in model_json(key, value)
    assert "evil_module" not in sys.modules
    assert peak_mb() - before < 300


def test_files_of_any_size(model_json: Callable[..., str], tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(2**40)  # takes no room
    assert "1,099,511,627,776 bytes instead of about" in model_json("extra", {})
    with (tmp_path / "model.json").open("r+b") as file:
        file.truncate(2**30)
    with pytest.raises(UserError, match=r"model.json: it has more than 10,000,000 bytes"):
        load_model(tmp_path)


def test_a_key_that_occurs_twice(model_json: Callable[..., str], tmp_path: Path) -> None:
    text = (tmp_path / "model.json").read_text().rstrip()[:-1] + ', "classes": ["x", "y", "z"]}'
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(UserError, match="a key occurs twice"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["pipe", "device", "folder"])
def test_a_file_of_the_model_that_is_none(name: str, how: str, model_json: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / name).unlink()
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}[how](tmp_path / name)
    with pytest.raises(UserError, match=r"holds no finished model|has no model.safetensors"):
        load_model(tmp_path)
