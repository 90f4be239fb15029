"""The reference for drift of a trained model: of the right images and features, and without a trace in the training."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landuse.data.augment import normalise
from landuse.data.pack import Pack
from landuse.monitoring.reference import make_reference
from landuse.training import reference as module
from landuse.training.device import Runtime
from landuse.training.reference import reference_of


class Net(nn.Module):
    """A convolution, and a head of the kind that is asked for."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.kind = head
        self.head: nn.Module = {"linear": nn.Linear(5, 3), "pointwise": nn.Conv2d(5, 3, 1), "none": nn.Identity()}[head]

    def features(self, inputs: Tensor) -> Tensor:
        return self.pool(self.body(inputs)).flatten(1)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.kind == "pointwise":
            return self.pool(self.head(self.body(inputs))).flatten(1)
        features = self.features(inputs)
        return self.head(features) if self.kind == "linear" else features[:, :3]


def outputs(model: Net, pack: Pack) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, probabilities and features of the validation split, in one batch."""
    images = np.array(pack.split("val").images)
    inputs = normalise(torch.from_numpy(images), torch.tensor(pack.mean), torch.tensor(pack.std))
    with torch.inference_mode():
        probabilities = model.eval()(inputs).softmax(dim=1).numpy()
        features = probabilities if model.kind == "none" else model.features(inputs).numpy()
    return images, probabilities, features


@pytest.mark.parametrize("head", ["linear", "pointwise"])
def test_features_are_what_the_head_is_given(head: str, pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(0)
    model = Net(head)
    found, expected = reference_of(model, pack, cpu, batch_size=5), make_reference(*outputs(model, pack))
    assert (found.num_classes, found.split, len(found.centre)) == (3, "val", 5)
    np.testing.assert_allclose(found.centre, expected.centre, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.rows.confidence, expected.rows.confidence, rtol=1e-5)
    assert np.array_equal(found.rows.statistics, expected.rows.statistics)
    assert np.array_equal(found.rows.predicted, expected.rows.predicted)


def test_a_model_without_a_head_has_its_logits(pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(0)
    model = Net("none")
    _, probabilities, _ = outputs(model, pack)
    found = reference_of(model, pack, cpu, batch_size=5)
    np.testing.assert_allclose(found.centre, np.log(probabilities).mean(axis=0), rtol=1e-4)


def test_of_a_large_split_a_prefix_is_enough(pack: Pack, cpu: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENOUGH", 7)
    assert len(reference_of(Net("linear"), pack, cpu, batch_size=5).rows.confidence) == 7


def test_it_leaves_no_trace(pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(1)
    model = Net("linear")
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    first, second = (reference_of(model, pack, cpu, batch_size=5) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tobytes() == states[1]  # noqa: NPY002
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not model.head._forward_pre_hooks
    assert np.array_equal(first.rows.features, second.rows.features)
