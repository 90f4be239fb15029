"""From an ONNX graph to one whose convolutions and matrix products are of 8-bit integers.

The settings were chosen by measurements on a CPU with VNNI; docs/exporting.md has them.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landuse.exporting.quiet import quiet
from landuse.serving.engine import INPUT

# What onnxruntime has fast integer kernels for. What lies between them (pools, additions, batch norms) would cost more
# in conversions than it gains, and each rounding costs accuracy.
QUANTISED = ("Conv", "Gemm", "MatMul", "Relu")
BATCH = 16  # images at once; of all intermediate results of a batch a copy is held
PERCENTILE = 99.999  # of the values that an 8-bit range spans; the few beyond it are clipped


class _Batches:
    """Images batch by batch, as quantize_static asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images
        self._coming = iter(range(0))

    def __len__(self) -> int:
        return -(-len(self._images) // BATCH)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._coming = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        number = next(self._coming, None)
        if number is None:
            return None
        return {INPUT: np.ascontiguousarray(self._images[number * BATCH : (number + 1) * BATCH])}


def quantise(graph: Path, images: NDArray[np.uint8], path: Path) -> None:
    """Write the static QDQ version of a graph: unsigned activations, signed weights with a scale for each channel.

    Weights have 7 bits: processors without VNNI add pairs of products in 16 bits, which 8 would overflow, and the graph
    should answer alike wherever it goes (onnxruntime's documentation, "Quantize ONNX models"). The first convolution
    and the head stay float: the one has three channels and is faster so, the other is small, and features go into it.

    Args:
        graph: of fp32.
        images: (N, S, S, 3) RGB, for the ranges of the activations.
        path: of the result.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet():
        prepared = Path(folder) / "prepared.onnx"
        # Without symbolic inference of shapes, which knows fewer operators than there are and is not needed here.
        quant_pre_process(graph, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, path, _Batches(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_kept_float(prepared),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.Percentile,
            calibration_providers=["CPUExecutionProvider"],
            extra_options={
                "CalibPercentile": PERCENTILE,
                "CalibStridedMinMax": 1,  # whatever the method: histograms are added up batch by batch
                "MatMulConstBOnly": True,  # products of two activations, as in attention, stay float
            },
        )  # fmt: skip


def _kept_float(graph: Path) -> list[str]:
    """Names of the first convolution and of the layer that makes the logits."""
    import onnx

    nodes = onnx.load(graph, load_external_data=False).graph.node
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    products = [node.name for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    return convolutions[:1] + products[-1:]
