"""The reference for drift of a trained model: of the right images and features, and without a trace in the training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landuse.data.augment import normalise
from landuse.data.pack import Pack
from landuse.monitoring import REFERENCE_FILE
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


class Custom(Net):
    """A model of someone's own, which asks its head in another way."""

    def __init__(self, how: str) -> None:
        super().__init__("linear")
        self.how = how

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.features(inputs)
        match self.how:
            case "by name":
                return self.head(input=features)
            case "twice":
                return self.head(features.flip(1)) * 0 + self.head(features)
            case "patches":
                maps = self.body(inputs).flatten(2).transpose(1, 2)  # (N, P, D)
                return self.head(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]).mean(dim=1)
            case "patches first":
                return self.head(self.body(inputs).flatten(2).permute(2, 0, 1)[:5]).mean(dim=0)
            case "one by one":
                return torch.stack([self.head(row) for row in features])
            case "infinite":
                return self.head(features * torch.inf).nan_to_num(0, 1, -1)
            case _:
                return self.head(features) * torch.nan


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


def test_a_model_without_a_head_has_its_log_probabilities(pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(0)
    model = Net("none")
    images, probabilities, _ = outputs(model, pack)
    found = reference_of(model, pack, cpu, batch_size=5)
    expected = make_reference(images, probabilities, np.log(probabilities))
    assert found is not None
    np.testing.assert_allclose(found.centre, expected.centre, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["by name", "twice"])
def test_the_last_input_of_a_head_counts(how: str, pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(0)
    model = Custom(how)
    found, expected = reference_of(model, pack, cpu, batch_size=5), make_reference(*outputs(model, pack))
    assert found is not None
    np.testing.assert_allclose(found.centre, expected.centre, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["patches", "patches first", "one by one", "infinite"])
def test_a_head_whose_input_is_no_row_an_image_leaves_the_answers(how: str, pack: Pack, cpu: Runtime) -> None:
    torch.manual_seed(0)
    model = Custom(how)
    images, probabilities, _ = outputs(model, pack)
    assert len(images) % 5  # so that "patches first" has five rows for five images, and for the others
    found = reference_of(model, pack, cpu, batch_size=5)
    expected = make_reference(images, probabilities, np.log(probabilities))
    assert found is not None
    np.testing.assert_allclose(found.centre, expected.centre, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.rows.confidence, expected.rows.confidence, rtol=1e-5)


def test_without_any_numbers_there_is_none(pack: Pack, cpu: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    assert reference_of(Custom("nan"), pack, cpu, batch_size=5) is None
    assert "No reference for drift" in caplog.text


NETS = """
from torch import nn


class Patches(nn.Module):
    def __init__(self, num_classes, never_first):
        super().__init__()
        self.body, self.head, self.never_first = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, num_classes), never_first

    def forward(self, inputs):
        patches = self.body(inputs).flatten(2).transpose(1, 2)
        logits = self.head(patches.flatten(0, 1)).unflatten(0, patches.shape[:2]).mean(dim=1)
        if self.never_first and not self.training:
            logits[:, 0] = float("-inf")
        return logits
"""


@pytest.mark.parametrize("has_reference", [True, False])
def test_a_training_ends_well_whatever_the_head_is_given(
    has_reference: bool, command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patch_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    own = [option for option in tiny if not option.startswith("model")]
    custom = ["model=custom", "model.target=patch_nets.Patches", f"+model.params.never_first={not has_reference}"]
    done = command("train", *own, *custom, "trainer.epochs=1")
    assert done.status == 0, done.err
    path = Path("outputs/latest/model", REFERENCE_FILE)
    assert path.is_file() == has_reference
    assert ("No reference for drift" in done.out + done.err) != has_reference


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
    assert not model.head._forward_pre_hooks and not model._forward_hooks
    assert np.array_equal(first.rows.features, second.rows.features)
