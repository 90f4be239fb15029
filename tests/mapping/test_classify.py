"""Chunks through a model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from landuse.config.schema import Config, CustomModelConfig
from landuse.config.validate_map import MOST_TILES
from landuse.errors import UserError
from landuse.mapping.bands import Task
from landuse.mapping.classifiers import GPU_BATCH, OnnxClassifier, TorchClassifier, open_classifier
from landuse.mapping.classify import answer
from landuse.mapping.describe import Asked, describe
from landuse.mapping.plan import Axis, Grid
from landuse.mapping.scene import Scene
from landuse.models.export import save_model
from landuse.models.registry import build_model
from tests.conftest import Run, overrides
from tests.mapping.scenes import CLASSES, TILE, colours, write
from tests.serving.tiny_model import write_exported

REGIONS = [["field", "water", "roof"], ["roof", "field", "water"]]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> OnnxClassifier:
    return OnnxClassifier(write_exported(tmp_path_factory.mktemp("model")), 4)


def grid_of(pixels: np.ndarray, stride: int = TILE) -> Grid:
    return Grid(Axis(pixels.shape[0], TILE, stride), Axis(pixels.shape[1], TILE, stride))


def task(scene: Scene, grid: Grid) -> Task:
    """The first chunk with its pixels."""
    with scene.opened() as reader:
        return Task(grid.chunks[0], reader.read(*grid.pixels_of(grid.chunks[0])))


def test_each_window_gets_its_class(tmp_path: Path, classifier: OnnxClassifier) -> None:
    pixels = colours(REGIONS)
    scene, grid = describe(str(write(tmp_path / "scene.tif", pixels)), Asked()), grid_of(pixels)
    answers = answer(task(scene, grid), grid, classifier, symmetries=False)
    assert [CLASSES[i] for i in answers[:, :-1].argmax(axis=1)] == [*REGIONS[0], *REGIONS[1]]
    assert (answers[:, -1] == 1).all()


def test_symmetries_are_averaged(tmp_path: Path, classifier: OnnxClassifier) -> None:
    """The model looks at mean colours, which no symmetry changes; how often it is asked shows that they were."""
    pixels = colours(REGIONS)
    scene, grid = describe(str(write(tmp_path / "scene.tif", pixels)), Asked()), grid_of(pixels)
    seen: list[np.ndarray] = []

    class Spy:
        model, device, batch_size = classifier.model, "cpu", 64

        def probabilities(self, images: np.ndarray) -> np.ndarray:
            seen.append(images.copy())
            return classifier.probabilities(images)

    marked = pixels.copy()
    marked[0, 0] = 255
    scene = describe(str(write(tmp_path / "marked.tif", marked)), Asked())
    plain = answer(task(scene, grid), grid, Spy(), symmetries=False)
    averaged = answer(task(scene, grid), grid, Spy(), symmetries=True)
    assert averaged == pytest.approx(plain, abs=1e-6)
    corners = {tuple(map(int, np.argwhere((images[0] == 255).all(axis=2))[0])) for images in seen[1:]}
    assert len(seen) == 9 and corners == {(0, 0), (0, 15), (15, 0), (15, 15)}


def test_batches_are_as_large_as_the_classifier_takes_them(tmp_path: Path) -> None:
    folder = write_exported(tmp_path / "model")
    assert OnnxClassifier(folder).batch_size == 32 and MOST_TILES == GPU_BATCH == 128
    pixels = colours(REGIONS)
    scene, grid = describe(str(write(tmp_path / "scene.tif", pixels)), Asked()), grid_of(pixels)
    asked: list[int] = []

    class Spy(OnnxClassifier):
        def probabilities(self, images: np.ndarray) -> np.ndarray:
            asked.append(len(images))
            return super().probabilities(images)

    answer(task(scene, grid), grid, Spy(folder, 4), symmetries=False)
    assert asked == [4, 2]


def test_windows_without_data_are_not_asked(tmp_path: Path, classifier: OnnxClassifier) -> None:
    pixels = colours(REGIONS)
    pixels[:, : TILE + 4] = 0
    scene, grid = describe(str(write(tmp_path / "scene.tif", pixels, nodata=0)), Asked()), grid_of(pixels)
    answers = answer(task(scene, grid), grid, classifier, symmetries=False).reshape(2, 3, 4)
    assert (answers[:, 0] == 0).all() and (answers[:, 1, -1] == 0.75).all() and (answers[:, 2, -1] == 1).all()
    assert answers[:, 1, :-1].argmax(axis=1).tolist() == [CLASSES.index("water"), CLASSES.index("field")]


@pytest.fixture
def run(command: Run, image_folder: Path, tmp_path: Path) -> Path:
    """A trained run with its export."""
    own = overrides(image_folder, tmp_path)
    assert command("train", *own, "run_name=one", "outputs=out").status == 0
    done = command("export", "run=out/train/folder_cnn/one", "export.variants=[fp32]", "export.measure=false")
    assert done.status == 0, done.err
    return tmp_path / "out/train/folder_cnn/one"


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize(
    ("device", "tolerance"), [("cpu", 1e-5), pytest.param("cuda", 1e-2, marks=NEEDS_GPU)]
)  # a GPU may multiply in TF32
def test_torch_answers_as_the_graph_does(run: Path, device: str, tolerance: float) -> None:
    folder = run / "export" / "fp32"
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    of_torch, of_onnx = TorchClassifier(folder, device), OnnxClassifier(folder, 7)
    assert of_torch.model == of_onnx.model
    assert of_torch.probabilities(images) == pytest.approx(of_onnx.probabilities(images), abs=tolerance)
    assert isinstance(open_classifier(folder, "auto" if not torch.cuda.is_available() else "cpu", 4), OnnxClassifier)
    description = json.loads((folder / "onnx.json").read_text())
    (folder / "onnx.json").write_text(json.dumps(description | {"variant": "int8"}))
    with pytest.raises(UserError, match="variant=int8 runs on the CPU"):
        TorchClassifier(folder, "cuda")


def test_a_gpu_needs_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lies in no run folder"):
        TorchClassifier(write_exported(tmp_path / "a" / "b"), "cuda")
    assert Config().trainer.device == "auto"
    assert isinstance(open_classifier(tmp_path / "a" / "b", "auto", 4), OnnxClassifier)


def test_a_network_of_the_user_s_own_goes_to_a_gpu_by_their_word_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mapped_nets.py").write_text(
        "from torch import nn\n"
        "def net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    custom = CustomModelConfig(target="mapped_nets.net")
    network = build_model(custom, len(CLASSES), 16)
    save_model(tmp_path / "run/model", network, custom, CLASSES, 16, [0.5] * 3, [0.2] * 3, {})
    weights = json.loads((tmp_path / "run/model/model.json").read_text())["weights_sha256"]
    folder = write_exported(tmp_path / "run/export/fp32", weights_sha256=weights)
    monkeypatch.setattr("landuse.config.devices.num_cuda_devices", lambda: 1)
    with caplog.at_level("INFO"):
        assert isinstance(open_classifier(folder, "auto", 4), OnnxClassifier)
    assert "model.target=" in caplog.text
    with pytest.raises(UserError, match="add: model=custom model.target=mapped_nets.net"):
        open_classifier(folder, "cuda", 4)
    opened = TorchClassifier(folder, "cpu", custom=custom)
    assert opened.probabilities(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, len(CLASSES))


@pytest.mark.parametrize("beside", [None, "{}"])
@pytest.mark.parametrize("num_gpus", [0, 1])
def test_what_lies_beside_an_export_may_be_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: str | None, num_gpus: int
) -> None:
    (tmp_path / "model").mkdir()
    if beside is not None:
        (tmp_path / "model/model.json").write_text(beside)
    monkeypatch.setattr("landuse.config.devices.num_cuda_devices", lambda: num_gpus)
    assert isinstance(open_classifier(write_exported(tmp_path / "a/b"), "auto"), OnnxClassifier)
