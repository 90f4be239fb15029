"""From a PyTorch classifier to one ONNX graph: uint8 pixels in, calibrated probabilities and features out."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from landuse.errors import UserError
from landuse.exporting.quiet import quiet
from landuse.models.head import features_of, find_head
from landuse.serving.engine import INPUT, OUTPUTS

# Operators of 2022, which every runtime still in use knows; later ones bring nothing that these graphs need, and the
# exporter writes this version without converting it.
OPSET = 18
LARGEST_GRAPH = 2_000_000_000  # bytes; a protobuf message holds 2^31 at most, and the graph is one file


class ServedNetwork(nn.Module):
    """A classifier with all that comes before and after it when it is served.

    Maps images (N, S, S, 3) uint8 RGB to probabilities (N, C) float32, softmax(logits / temperature), and features
    (N, D) float32: the input of the classification head, as :func:`landuse.models.head.features_of` has it.
    """

    def __init__(
        self, model: nn.Module, num_classes: int, mean: Sequence[float], std: Sequence[float], temperature: float = 1.0
    ) -> None:
        """
        Args:
            model: on the CPU; is copied, so that it stays as it is.
            mean, std: of the channels R, G, B on the scale 0..1.
            temperature: what the logits are divided by (Guo et al. 2017).
        """
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.temperature = temperature
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in std]).view(3, 1, 1))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(3, 1, 1))
        self._given: list[object] = []
        head = find_head(self.model, num_classes)
        if head is not None:
            self.model.get_submodule(head).register_forward_pre_hook(self._keep, with_kwargs=True)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and features."""
        self._given.clear()
        # Contiguous, or the exporter writes operators that undo the strides; and turned while pixels are bytes.
        pixels = images.permute(0, 3, 1, 2).contiguous().float()
        logits = self.model(pixels * self.scale + self.shift)
        features = features_of(self._given.pop() if self._given else None, logits)
        return (logits.float() / self.temperature).softmax(dim=1), features.float()

    def _keep(self, _head: nn.Module, arguments: tuple[object, ...], named: dict[str, object]) -> None:
        self._given[:] = [*arguments, *named.values()][:1]  # of the last call, if there are several


def write_graph(network: ServedNetwork, image_size: int, path: Path) -> None:
    """Write a network as ONNX, weights included, for batches of any size, and check the file.

    Nothing in it tells where or when it was made: the same weights give the same bytes.

    Raises:
        UserError: it does not fit into one file, or is made of what cannot be exported.
    """
    import onnx

    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if num_bytes > LARGEST_GRAPH:
        raise UserError(
            f"The model has {num_bytes / 1e9:.1f} GB of weights, and an ONNX file holds {LARGEST_GRAPH / 1e9:.0f}: "
            "serve a smaller one."
        )
    _floor_pools(network, image_size)
    images = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    try:
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                network, (images,), dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=OUTPUTS,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}}, verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter has classes of its own for each step, and a model's own code any other
        problem = str(error.__cause__ or error).strip().partition("\n")[0][:300]
        raise UserError(
            f"This model cannot be exported to ONNX ({problem}). A model of your own must be a fixed computation on "
            "batches of any size: no branches on values, no shapes taken from the first batch."
        ) from error
    assert program is not None
    graph = program.model_proto
    _forget_origin(graph)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def _floor_pools(network: ServedNetwork, image_size: int) -> None:
    """Take ceil_mode from average pools whose maps divide evenly, where it changes nothing.

    With it onnxruntime has no kernel in its own memory layout and goes back and forth around each: 6 % of the time of a
    slim_resnet at 128 px.
    """
    uneven: set[nn.Module] = set()

    def look(pool: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(pool, nn.AvgPool2d)
        sides = arguments[0].shape[-2:]
        kernels, strides, paddings = map(_pair, (pool.kernel_size, pool.stride, pool.padding))
        ends = [side + 2 * padding - kernel for side, kernel, padding in zip(sides, kernels, paddings, strict=True)]
        if any(end % stride for end, stride in zip(ends, strides, strict=True)):
            uneven.add(pool)

    pools = [module for module in network.modules() if isinstance(module, nn.AvgPool2d) and module.ceil_mode]
    handles = [pool.register_forward_pre_hook(look) for pool in pools]
    try:
        if pools:
            with torch.no_grad():
                network(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8))
    finally:
        for handle in handles:
            handle.remove()
    for pool in pools:
        pool.ceil_mode = pool in uneven


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _forget_origin(graph: object) -> None:
    """Remove what the exporter notes for its developers, such as lines of source code with their paths."""
    import onnx

    assert isinstance(graph, onnx.ModelProto)
    for part in (graph, graph.graph, *graph.functions):
        part.ClearField("metadata_props")
    for values in (
        graph.graph.node,
        graph.graph.value_info,
        graph.graph.input,
        graph.graph.output,
        graph.graph.initializer,
    ):
        for value in values:
            value.ClearField("metadata_props")
            value.ClearField("doc_string")
