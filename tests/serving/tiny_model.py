"""An exported model made by hand, for tests of what uses one: it tells classes apart by the mean colour of an image."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from landuse.serving.artifact import MODEL_FILE, describe

COLOURS = {"field": (90, 160, 60), "roof": (170, 80, 70), "water": (40, 80, 150)}  # RGB, as of the tests' image folder
SHARPNESS = 20.0  # of the softmax: of the three classes, one whose very colour is seen is given about 0.98


def colour_of(name: str, classes: Sequence[str]) -> tuple[int, int, int]:
    """The colour that makes an image one of this class; evenly spaced hues for names that have none of their own."""
    red, green, blue = colorsys.hsv_to_rgb(classes.index(name) / len(classes), 0.8, 0.8)
    return COLOURS.get(name, (round(red * 255), round(green * 255), round(blue * 255)))


def picture(name: str, classes: Sequence[str] = tuple(COLOURS), size_px: int = 16) -> np.ndarray:
    """An image (size_px, size_px, 3) uint8 of this class."""
    return np.full((size_px, size_px, 3), colour_of(name, classes), np.uint8)


def write_exported(
    folder: Path, classes: Sequence[str] = ("field", "roof", "water"), image_size: int = 16, num_features: int = 4,
    **source: object,
) -> Path:  # fmt: skip
    """Write ``model.onnx`` and ``onnx.json``; the features are the mean red, green and blue in 0..1, then zeros.

    Args:
        source: more of what onnx.json says of the model's origin, such as ``gsd``.

    Returns:
        The folder, which can be given as ``run=``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(classes, image_size, num_features), folder / MODEL_FILE)
    describe(folder, {
        "variant": "fp32", "classes": list(classes), "image_size": image_size, "temperature": 1.0, "value_range": None,
        "source": {"run": "tiny", "weights_sha256": "0" * 64, **source}, "facts": {},
    })  # fmt: skip
    return folder


def _graph(classes: Sequence[str], image_size: int, num_features: int) -> onnx.ModelProto:
    """Of all colours m the nearest to x has the largest 2 m x - m m."""
    colours = np.array([colour_of(name, classes) for name in classes], np.float32) / 255
    weights = np.zeros((num_features, len(classes)), np.float32)
    weights[:3] = 2 * SHARPNESS * colours.T
    constants = {
        "to_unit": np.float32(1 / 255), "space": np.array([1, 2], np.int64),
        "to_features": np.eye(3, num_features, dtype=np.float32), "weights": weights,
        "bias": -SHARPNESS * (colours**2).sum(axis=1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "space"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "to_unit"], ["colour"]),
        helper.make_node("MatMul", ["colour", "to_features"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", image_size, image_size, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(classes)]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", num_features]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10  # what the oldest onnxruntime that is allowed can read
    onnx.checker.check_model(model, full_check=True)
    return model
