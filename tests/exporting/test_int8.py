"""Graphs of 8-bit integers."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from landuse.exporting.graph import ServedNetwork, write_graph
from landuse.exporting.int8 import quantise
from tests.exporting.conftest import named, seeded, vit
from tests.exporting.test_graph import MEAN, STD, pixels, run


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph in floats and what was made of it."""
    folder = tmp_path_factory.mktemp("int8")
    write_graph(ServedNetwork(seeded(named("slim_resnet")), 3, MEAN, STD), 32, folder / "fp32.onnx")
    quantise(folder / "fp32.onnx", pixels(40), folder / "int8.onnx")
    return folder


def test_answers_stay_close(graphs: Path) -> None:
    images = pixels(64)
    exact, rounded = run(graphs / "fp32.onnx", images)[0], run(graphs / "int8.onnx", images)[0]
    assert np.abs(exact - rounded).mean() < 0.02
    assert not np.array_equal(exact, rounded)


def test_batches_of_any_size_are_taken(graphs: Path) -> None:
    images = pixels(33)
    whole = run(graphs / "int8.onnx", images)[0]
    single = np.concatenate([run(graphs / "int8.onnx", images[i : i + 1])[0] for i in range(3)])
    np.testing.assert_allclose(single, whole[:3], atol=1e-6)


def test_weights_are_bytes_of_seven_bits_with_a_scale_for_each_channel(graphs: Path) -> None:
    model = onnx.load(graphs / "int8.onnx").graph
    weights = {t.name: numpy_helper.to_array(t) for t in model.initializer if t.data_type == onnx.TensorProto.INT8}
    kernels = [weight for weight in weights.values() if weight.ndim == 4]
    assert len(kernels) == 8  # of nine convolutions
    assert all(kernel.min() >= -64 and kernel.max() <= 64 for kernel in kernels)
    scales = [numpy_helper.to_array(t) for t in model.initializer if t.name.endswith("weight_scale")]
    assert {scale.ndim for scale in scales} == {1}
    assert (graphs / "int8.onnx").stat().st_size < 0.5 * (graphs / "fp32.onnx").stat().st_size


def test_the_first_convolution_the_head_and_the_softmax_stay_float(graphs: Path) -> None:
    model = onnx.load(graphs / "int8.onnx").graph
    made_by = {output: node.op_type for node in model.node for output in node.output}
    convolutions = [node for node in model.node if node.op_type == "Conv"]
    quantised = [made_by.get(node.input[1]) == "DequantizeLinear" for node in convolutions]
    assert quantised == [False] + [True] * (len(convolutions) - 1)
    (head,) = [node for node in model.node if node.op_type == "Gemm"]
    assert made_by.get(head.input[1]) is None
    assert made_by["features"] not in ("DequantizeLinear", "QuantizeLinear")
    assert Counter(node.op_type for node in model.node)["Softmax"] == 1


def test_attention_is_quantised_in_its_weights_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_graph(ServedNetwork(seeded(vit), 3, MEAN, STD), 32, tmp_path / "fp32.onnx")
    quantise(tmp_path / "fp32.onnx", pixels(20), tmp_path / "int8.onnx")
    images = pixels(33)
    exact, rounded = run(tmp_path / "fp32.onnx", images)[0], run(tmp_path / "int8.onnx", images)[0]
    assert np.abs(exact - rounded).max() < 0.05
    assert capsys.readouterr().out == ""
