"""The folder that Triton and KServe read."""

import json
from pathlib import Path

import onnx
import pytest

from landuse.exporting.triton import write_model
from landuse.serving.engine import Engine
from tests.serving.tiny_model import write_exported


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(write_exported(tmp_path / "export" / "fp32"))


def test_the_configuration_is_one_of_tritons_and_fits_the_graph(engine: Engine, tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    folder = write_model(tmp_path / "export", engine, "landuse_fp32")
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, folder.name) == ("landuse_fp32", "onnxruntime", "landuse_fp32")
    assert config.max_batch_size > 1 and config.HasField("dynamic_batching")
    graph = onnx.load(folder / "1" / "model.onnx").graph
    kinds = {onnx.TensorProto.UINT8: model_config_pb2.TYPE_UINT8, onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32}
    for described, values in ((config.input, graph.input), (config.output, graph.output)):
        described = {value.name: value for value in described}
        for value in values:
            tensor, own = value.type.tensor_type, described[value.name]
            assert own.data_type == kinds[tensor.elem_type]
            sides = [dim.dim_value for dim in tensor.shape.dim[1:]]  # the first is the batch, which Triton adds
            assert all(side in (0, stated) for side, stated in zip(sides, own.dims, strict=True))
    assert config.output[0].label_filename == "labels.txt"


def test_the_labels_are_lines_in_the_order_of_the_probabilities(engine: Engine, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "export", engine, "landuse_fp32")
    assert (folder / "labels.txt").read_text().splitlines() == list(engine.model.classes)
    assert (folder / "1" / "model.onnx").read_bytes() == (engine.model.folder / "model.onnx").read_bytes()


def test_a_model_replaces_an_older_one_and_leaves_nothing_else(engine: Engine, tmp_path: Path) -> None:
    for _ in range(2):
        folder = write_model(tmp_path / "export", engine, "landuse_fp32")
    assert {path.name for path in folder.parent.iterdir()} == {"landuse_fp32"}  # Triton takes each folder for a model
    assert json.loads((engine.model.folder / "onnx.json").read_text())["format"] == "landuse-onnx"
