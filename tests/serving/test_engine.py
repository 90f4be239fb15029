"""Exported folders as an engine takes them; they may come from a stranger."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from landuse.errors import UserError
from landuse.serving.artifact import read_served
from landuse.serving.engine import Engine, top_classes
from tests.serving.tiny_model import picture, write_exported


def rewrite(folder: Path, graph: onnx.ModelProto) -> None:
    """Put another graph into the folder, with its checksum."""
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    change(folder, onnx_sha256=hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest())


def change(folder: Path, **values: object) -> None:
    path = folder / "onnx.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_answers_of_any_batch_size(exported: Path) -> None:
    engine = Engine(exported, num_threads=2, max_batch=4)
    images = np.stack([picture(name) for name in ("water", "roof", "field") * 3])
    answers = engine(images)
    assert answers.probabilities.argmax(axis=1).tolist() == [2, 1, 0] * 3
    assert answers.features.shape == (9, engine.num_features)
    np.testing.assert_array_equal(engine(images[:1]).probabilities, answers.probabilities[:1])


def test_top_classes_with_ties() -> None:
    values = np.array([0.25, 0.5, 0.25], np.float32)
    assert top_classes(values, ["a", "b", "c"], 5) == [("b", 0.5), ("a", 0.25), ("c", 0.25)]
    assert top_classes(values, ["a", "b", "c"], 1) == [("b", 0.5)]


@pytest.mark.parametrize("location", ["secret", "../secret", "/etc/hostname"])
def test_a_graph_reads_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    folder = write_exported(tmp_path / "fp32")
    for place in (tmp_path, folder):
        (place / "secret").write_bytes(bytes(4096))
    monkeypatch.chdir(tmp_path)
    graph = onnx.load(folder / "model.onnx")
    (weights,) = (tensor for tensor in graph.graph.initializer if tensor.name == "weights")
    for key, value in (("location", location), ("length", str(len(weights.raw_data)))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    rewrite(folder, graph)
    with pytest.raises(UserError, match="cannot be run"):
        Engine(folder)


def test_damaged_weights_are_found(tmp_path: Path) -> None:
    folder = write_exported(tmp_path / "fp32")
    graph = onnx.load(folder / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name == "bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), "bias"))
    rewrite(folder, graph)
    with pytest.raises(UserError, match="no numbers"):
        Engine(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "other", "not the format"),
        ("format_version", 2, "format_version 1"),
        ("classes", ["a", "a", "b"], "different names"),
        ("classes", ["a", "b"], "does not have the 2 classes"),
        ("classes", "abc", "list"),
        ("image_size", 10**9, "image_size"),
        ("image_size", True, "image_size"),
        ("temperature", 0, "temperature"),
        ("temperature", float("nan"), "temperature"),
        ("value_range", [1, 0], "value_range"),
        ("temperature", 10**400, "temperature"),
        ("value_range", [0, 10**400], "value_range"),
        ("variant", "../x", "variant"),
        ("source", "x", "source must be an object"),
        ("source", {"gsd": -1}, "gsd must lie above 0"),
        ("source", {"gsd": float("inf")}, "gsd must lie above 0"),
        ("source", {"tile_size": "256"}, "tile_size must lie between"),
        ("onnx_sha256", "0" * 64, "not the file"),
    ],
)
def test_descriptions_are_checked(tmp_path: Path, key: str, value: object, words: str) -> None:
    folder = write_exported(tmp_path / "fp32")
    change(folder, **{key: value})
    with pytest.raises(UserError, match=words):
        Engine(folder)


def test_what_ground_its_images_showed(tmp_path: Path) -> None:
    """Exports of before do not say."""
    folder = write_exported(tmp_path / "fp32")
    for source, ground in (
        ({}, (None, None)),
        ({"gsd": None, "tile_size": 64}, (None, 64)),
        ({"gsd": 10, "tile_size": 64}, (10.0, 64)),
    ):
        change(folder, source=source)
        model, _ = read_served(folder)
        assert (model.gsd, model.tile_size) == ground
    path = folder / "onnx.json"
    path.write_text(json.dumps({key: value for key, value in model.info.items() if key != "source"}))
    assert read_served(folder)[0].gsd is None


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 5000, '{"format": "landuse-onnx", "format_version": 1}'])
def test_broken_descriptions(tmp_path: Path, content: str) -> None:
    folder = write_exported(tmp_path / "fp32")
    (folder / "onnx.json").write_text(content)
    with pytest.raises(UserError, match="Export the run again"):
        Engine(folder)
