"""Graphs answer as the networks do that they were made of."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from landuse.errors import UserError
from landuse.exporting import graph
from landuse.exporting.graph import ServedNetwork, write_graph
from tests.exporting.conftest import convnext, named, seeded, swin, vit

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
BUILDERS = {
    "cnn": named("cnn"), "slim_resnet": named("slim_resnet"),
    "mobilenet_v3_small": named("mobilenet_v3_small"), "squeezenet1_1": named("squeezenet1_1"),
    "convnext": convnext, "vit": vit, "swin": swin,
}  # fmt: skip


def pixels(num_images: int, size_px: int = 32) -> np.ndarray:
    return np.random.default_rng(num_images).integers(0, 256, (num_images, size_px, size_px, 3), dtype=np.uint8)


def run(path: Path, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probabilities", "features"], {"images": images})


QUICK = ("cnn", "slim_resnet", "vit")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS]
)
def test_a_graph_answers_as_its_network_for_batches_of_any_size(name: str, tmp_path: Path) -> None:
    network = ServedNetwork(seeded(BUILDERS[name]), 3, MEAN, STD, temperature=0.7)
    write_graph(network, 32, tmp_path / "model.onnx")
    for num_images in (1, 2, 33):
        images = pixels(num_images)
        with torch.no_grad():
            expected = [value.numpy() for value in network(torch.from_numpy(images))]
        obtained = run(tmp_path / "model.onnx", images)
        assert obtained[0].shape == (num_images, 3) and obtained[1].ndim == 2
        np.testing.assert_allclose(obtained[0], expected[0], atol=1e-5)
        np.testing.assert_allclose(obtained[1], expected[1], atol=1e-4 * np.abs(expected[1]).max())


def test_pixels_are_normalised_as_in_training(tmp_path: Path) -> None:
    from landuse.data.augment import normalise

    model, images = seeded(named("cnn")), pixels(5)
    write_graph(ServedNetwork(model, 3, MEAN, STD, temperature=2.0), 32, tmp_path / "model.onnx")
    with torch.no_grad():
        logits = model(normalise(torch.from_numpy(images), torch.tensor(MEAN), torch.tensor(STD)))
    probabilities, features = run(tmp_path / "model.onnx", images)
    np.testing.assert_allclose(probabilities, (logits / 2).softmax(1).numpy(), atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(model.head(torch.from_numpy(features)), logits, atol=1e-4)


def test_features_without_a_head_are_the_logits(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    write_graph(ServedNetwork(model, 3, MEAN, STD), 32, tmp_path / "model.onnx")
    probabilities, features = run(tmp_path / "model.onnx", pixels(2))
    np.testing.assert_allclose(torch.from_numpy(features).softmax(1), probabilities, atol=1e-6)


def test_the_network_stays_as_it_is(tmp_path: Path) -> None:
    model = seeded(named("slim_resnet"))
    ceil_modes = [module.ceil_mode for module in model.modules() if isinstance(module, nn.AvgPool2d)]
    write_graph(ServedNetwork(model, 3, MEAN, STD), 32, tmp_path / "model.onnx")
    assert ceil_modes == [module.ceil_mode for module in model.modules() if isinstance(module, nn.AvgPool2d)]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(("size_px", "kept"), [(32, set()), (36, {1})])
def test_average_pools_round_up_only_where_they_have_to(size_px: int, kept: set[int], tmp_path: Path) -> None:
    """Maps of 36 px have sides of 9 and 5 in front of the pools."""
    network = ServedNetwork(seeded(named("slim_resnet")), 3, MEAN, STD)
    write_graph(network, size_px, tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    pools = [node for node in nodes if node.op_type == "AveragePool"]
    modes = {attribute.i for pool in pools for attribute in pool.attribute if attribute.name == "ceil_mode"}
    assert len(pools) == 2 and modes - {0} == kept
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels(2, size_px)))[0].numpy()
    np.testing.assert_allclose(run(tmp_path / "model.onnx", pixels(2, size_px))[0], expected, atol=1e-6)


def test_a_graph_is_lean_and_tells_nothing_of_its_origin(tmp_path: Path) -> None:
    model = seeded(named("slim_resnet"))
    for name in ("a.onnx", "b.onnx"):
        write_graph(ServedNetwork(model, 3, MEAN, STD), 32, tmp_path / name)
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    assert b".py" not in content
    operators = [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node]
    assert "BatchNormalization" not in operators  # folded into convolutions
    assert operators.count("Transpose") == operators.count("Cast") == 1
    assert not {"Gather", "Range", "Shape"} & set(operators)


def test_a_model_too_large_for_one_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LARGEST_GRAPH", 1000)
    with pytest.raises(UserError, match="GB of weights"):
        write_graph(ServedNetwork(seeded(named("cnn")), 3, MEAN, STD), 32, tmp_path / "model.onnx")


class Branching(nn.Module):
    """Its computation depends on the pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(2, 3))
        return means if means.sum() > 0 else -means


def test_a_model_that_branches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no branches on values"):
        write_graph(ServedNetwork(Branching(), 3, MEAN, STD), 32, tmp_path / "model.onnx")
