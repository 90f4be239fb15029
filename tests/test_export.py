"""The command export, on a run of tiny images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from landuse.config.validate_service import VARIANTS
from landuse.data.augment import normalise
from landuse.exporting.data import packed_before
from landuse.exports import is_current
from landuse.models.export import load_model
from landuse.monitoring import reference
from landuse.serving.artifact import read_served
from landuse.serving.engine import Engine
from tests.conftest import write_images
from tests.exporting.conftest import COLOURS, train_tiny
from tests.run_folders import commands, load

QUICK = ["export.measure=false", "hardware.num_threads=1"]


def all_variants(where: Path) -> list[str]:
    """Of the run ``tiny``; of its 24 validation images each counts 0.04."""
    asked = [f"export.variants=[{','.join(VARIANTS)}]", "export.prune_epochs=2", "export.max_accuracy_loss=0.3"]
    return ["run=tiny", f"data.home={where}/data", "hardware.num_threads=1", *asked]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the run ``tiny``, of which there are all variants."""
    where = tmp_path_factory.mktemp("export")
    train_tiny(where)
    commands(where, ["export", *all_variants(where), "export.layout=triton", "export.measure=false"])
    return where


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, evaluated and then measured, which compiles the network."""
    where = tmp_path_factory.mktemp("measured")
    train_tiny(where)
    home = [f"data.home={where}/data", "hardware.num_threads=1"]
    commands(where, ["evaluate", "run=tiny", *home], ["export", *all_variants(where)])
    return where


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run without its exports."""
    shutil.copytree(place / "tiny", tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    return tmp_path / "run"


@pytest.fixture
def quick(place: Path) -> list[str]:
    """For an export that takes a second."""
    return ["run=run", f"data.home={place}/data", *QUICK]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_complete_and_answers(variant: str, place: Path) -> None:
    folder = place / "tiny/export" / variant
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "onnx.json", "reference.safetensors", "samples"}
    engine = Engine(folder, max_batch=33)
    images = np.random.default_rng(0).integers(0, 256, (33, 16, 16, 3), dtype=np.uint8)
    probabilities, _ = engine(images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    kept = reference.load(folder / "reference.safetensors", len(engine.model.classes), engine.num_features)
    assert kept.split == "val" and len(kept.rows.confidence) > 0
    assert {path.name for path in (folder / "samples").iterdir()} == {
        "bare_field.png", "roof.png", "sand.png", "water.png"
    }  # fmt: skip
    assert is_current(folder, place / "tiny")


def test_the_graph_answers_as_the_run_does(place: Path) -> None:
    loaded = load_model(place / "tiny")
    pack = packed_before(place / "data", loaded)
    assert pack is not None
    images = np.array(pack.split("test").images)
    engine = Engine(place / "tiny/export/fp32", max_batch=len(images))
    with torch.no_grad():
        logits = loaded.model(normalise(torch.from_numpy(images), torch.tensor(loaded.mean), torch.tensor(loaded.std)))
    expected = (logits / engine.model.temperature).softmax(dim=1).numpy()
    np.testing.assert_allclose(engine(images).probabilities, expected, atol=1e-5)


def test_what_is_served_tells_of_its_source(place: Path) -> None:
    described, trained = load(place / "tiny/export/fp32/onnx.json"), load(place / "tiny/model/model.json")
    source = described["source"]
    assert source["weights_sha256"] == trained["weights_sha256"] and source["run"] == "tiny"
    assert source["architecture"]["name"] == "cnn" and source["num_parameters"] == trained["num_parameters"]
    assert source["split_fingerprint"] == trained["extra"]["split_fingerprint"]
    assert (source["gsd"], source["tile_size"]) == (None, 16) and trained["extra"]["tile_size"] == 16
    assert described["facts"]["max_difference"] < 1e-4
    assert described["facts"]["compared_on"] == "24 validation images"
    assert described["classes"] == sorted(COLOURS) and described["value_range"] is None
    smaller = load(place / "tiny/export/pruned/onnx.json")["source"]
    assert smaller == load(place / "tiny/export/pruned_int8/onnx.json")["source"]
    assert smaller["num_parameters"] < 0.8 * trained["num_parameters"]


@pytest.mark.slow
def test_the_table_has_all_variants_on_the_same_test_images(measured: Path) -> None:
    place = measured
    rows = {row["name"]: row for row in load(place / "tiny/export/export.json")["variants"]}
    assert list(rows) == ["PyTorch", "PyTorch, compiled", *VARIANTS]
    evaluated = load(place / "tiny/evaluation.json")
    for name in ("PyTorch", "fp32"):
        assert rows[name]["test"]["accuracy"] == evaluated["accuracy"]
        assert rows[name]["test"]["accuracy_ci95"] == evaluated["accuracy_ci95"]
    assert {rows[name]["test"]["num_images"] for name in rows if rows[name]["test"]} == {24}
    assert all(rows[name]["speed"]["latency_ms"] > 0 for name in ("PyTorch", *VARIANTS))
    compiled = rows["PyTorch, compiled"]
    assert compiled["note"].startswith("compiled in" if compiled["speed"] else "does not compile here")
    assert rows["int8"]["num_bytes"] < rows["fp32"]["num_bytes"]
    assert "| int8" in (place / "tiny/export/export.md").read_text()


@pytest.mark.slow
def test_an_export_is_no_choice_by_the_test_split(measured: Path, command) -> None:
    """The run's check counts the openings of one model."""
    place = measured
    lines = [json.loads(line) for line in (place / "tiny/evaluations.jsonl").read_text().splitlines()]
    assert [line["precision"] for line in lines[1:]] == [f"export {v}" for v in ("PyTorch", *VARIANTS)]
    done = command("report", "check", f"run={place}/tiny")
    assert "ok   test opened   6 evaluation(s) of 1 model(s)" in done.err


def test_a_model_repository_is_written_beside(place: Path) -> None:
    for variant in VARIANTS:
        folder = place / "tiny/export/triton" / f"landuse_{variant}"
        assert {path.name for path in folder.iterdir()} == {"config.pbtxt", "labels.txt", "1"}
        served = place / "tiny/export" / variant / "model.onnx"
        assert (folder / "1/model.onnx").read_bytes() == served.read_bytes()


def test_the_same_weights_give_the_same_graph(place: Path, run: Path, quick: list[str], command) -> None:
    done = command("export", *quick, "export.variants=[fp32]")
    assert done.status == 0, done.err
    graphs = [read_served(folder / "export/fp32")[0].onnx_sha256 for folder in (place / "tiny", run)]
    assert graphs[0] == graphs[1]
    assert "PassManager" not in done.err and done.out == ""
    assert not (run / "export/export.json").exists() and not (run / "export/triton").exists()
    assert "val accuracy" in (run / "export/export.log").read_text()


@pytest.mark.slow
def test_what_loses_too_much_is_refused(run: Path, quick: list[str], command) -> None:
    line = ["export.variants=[pruned,fp32]", "export.prune_amount=0.9", "export.prune_epochs=0"]
    done = command("export", *quick, *line)
    assert done.status == 1
    assert "pruned has a validation accuracy of" in done.err and "below PyTorch's" in done.err
    assert "export.max_accuracy_loss=0.01" in done.err and "export.keep_refused=true" in done.err
    assert "Traceback" not in done.err
    assert {path.name for path in (run / "export").iterdir()} == {".lock", "export.log", "fp32"}
    done = command("export", *quick, *line, "export.keep_refused=true")
    assert done.status == 0, done.err
    assert "below PyTorch's" in load(run / "export/pruned/onnx.json")["facts"]["refused"]


def test_a_graph_that_differs_is_refused_and_an_older_one_stays(run: Path, quick: list[str], command) -> None:
    assert command("export", *quick, "export.variants=[fp32]").status == 0
    before = read_served(run / "export/fp32")[0]
    done = command("export", *quick, "export.variants=[fp32,int8]", "export.max_difference=1e-15")
    assert done.status == 1
    assert "a probability differs by" in done.err and "export.max_difference=1e-15" in done.err
    assert read_served(run / "export/fp32")[0].info == before.info
    assert {path.name for path in (run / "export").iterdir()} == {".lock", "export.log", "fp32"}


def test_a_model_without_its_data_is_exported_uncalibrated(run: Path, command, tmp_path: Path) -> None:
    """Wherever its images were; the reference is the one that training left."""
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("/images", "/gone"))
    line = ["run=run", f"data.home={tmp_path}/nothing", *QUICK]
    done = command("export", *line, "export.variants=[fp32]")
    assert done.status == 0, done.err
    assert "uncalibrated" in done.err and "on 36 random images" in done.err
    folder = run / "export/fp32"
    served, _ = read_served(folder)
    assert (served.temperature, served.tile_size) == (1.0, 16)  # the latter as training found it
    assert (folder / "reference.safetensors").read_bytes() == (run / "model/reference.safetensors").read_bytes()
    assert not (folder / "samples").exists()
    engine = Engine(folder)
    reference.load(folder / "reference.safetensors", len(engine.model.classes), engine.num_features)
    for variant in VARIANTS[1:]:
        done = command("export", *line, f"export.variants=[{variant}]")
        assert done.status == 2
        assert f"data.home={tmp_path}/nothing" in done.err and "leave out export.measure=false" in done.err


def test_the_range_of_deep_pixels_goes_with_the_model(run: Path, quick: list[str], command) -> None:
    done = command("export", *quick, "export.variants=[fp32]", "data.quality.value_range=[0,3000]")
    assert done.status == 0, done.err
    assert read_served(run / "export/fp32")[0].value_range == (0.0, 3000.0)


def test_what_the_images_show_goes_with_the_model(run: Path, quick: list[str], command) -> None:
    """As typed, else as the model has it; of a run of before, as its configuration and its pack say."""

    def exported(*line: str) -> tuple[float | None, int | None]:
        done = command("export", *quick, "export.variants=[fp32]", *line)
        assert done.status == 0, done.err
        model, _ = read_served(run / "export/fp32")
        return model.gsd, model.tile_size

    model = load(run / "model/model.json")
    extra = model["extra"] | {"gsd": 2.0}
    (run / "model/model.json").write_text(json.dumps(model | {"extra": extra}))
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("gsd: null", "gsd: 7.0"))
    assert exported("data.tile_size=32") == (2.0, 32)
    del extra["gsd"], extra["tile_size"]
    (run / "model/model.json").write_text(json.dumps(model | {"extra": extra}))
    assert exported() == (7.0, 16)
    (run / "model/model.json").write_text(json.dumps(model | {"extra": extra | {"gsd": -1}}))
    done = command("export", *quick)
    assert done.status == 2 and "model.json: gsd must lie above 0" in done.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["data.gsd=-1"], "data.gsd=-1.0: must lie above 0"),
        (["data.tile_size=0"], "data.tile_size=0: must lie"),
        (["export.variants=[fp16]"], "fp32"),
        (["export.variants=[]"], "export.variants is empty"),
        (["data.image_size=24"], "the model was made at 16 px"),
        (["model=resnet18"], "holds a cnn"),
        (["run=nowhere"], "no such folder"),
    ],
)
def test_mistakes_have_a_message(line: list[str], message: str, run: Path, quick: list[str], command) -> None:
    done = command("export", *quick, *line)
    assert done.status == 2
    assert message in done.err
    assert not (run / "export/fp32").exists()


def test_a_run_says_neither_where_nor_how_it_is_exported(run: Path, quick: list[str], command, tmp_path: Path) -> None:
    """It may be a stranger's: what it says of export and serve is not taken."""
    config = (run / "config.yaml").read_text()
    bad = config.replace("layout: folder", "layout: triton").replace("name: landuse", f"name: {tmp_path}/elsewhere")
    assert bad != config
    (run / "config.yaml").write_text(bad.replace("max_difference: 0.001", "max_difference: 0.9"))
    done = command("export", *quick, "export.variants=[fp32]")
    assert done.status == 0, done.err
    assert not (run / "export/triton").exists() and not list(tmp_path.glob("elsewhere*"))
    done = command("export", *quick, "export.layout=triton", "serve.name=../x")
    assert done.status == 2 and "serve.name" in done.err


def test_images_that_are_split_otherwise_are_refused(place: Path, run: Path, command) -> None:
    done = command("export", "run=run", f"data.home={place}/data", "data.split.seed=7", "hardware.num_threads=1")
    assert done.status == 2
    assert "not split as the run's were" in done.err
    assert not (run / "export/fp32").exists()


def test_a_refused_variant_leaves_no_older_one(run: Path, quick: list[str], command) -> None:
    assert command("export", *quick, "export.variants=[int8]").status in (0, 1)
    (run / "export/int8").mkdir(exist_ok=True)
    (run / "export/export.md").write_text("of before")
    done = command("export", *quick, "export.variants=[pruned]", "export.prune_amount=0.9", "export.prune_epochs=0")
    assert done.status == 1
    assert not (run / "export/pruned").exists() and not (run / "export/export.md").exists()


def test_data_of_other_classes_are_refused(run: Path, command, tmp_path: Path) -> None:
    write_images(tmp_path / "others", {"desert": (200, 180, 100), "forest": (30, 90, 40)}, per_class=10)
    done = command("export", "run=run", "data=folder", f"data.root={tmp_path}/others", f"data.home={tmp_path}/d")
    assert done.status == 2
    assert "desert, forest" in done.err


def test_a_damaged_run_is_refused(run: Path, quick: list[str], command) -> None:
    weights = run / "model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = command("export", *quick)
    assert done.status == 2
    assert "sha256" in done.err
    shutil.rmtree(run / "export")
    (run / "export").write_text("in the way")
    done = command("export", *quick)
    assert done.status == 2
    assert "is no folder" in done.err


def test_a_custom_model_needs_its_class_named(command, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "nets_to_export.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, width):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
    )
    custom = ["model=custom", "model.target=nets_to_export.net"]
    others = [override for override in tiny if not override.startswith("model")]
    assert command("train", *others, *custom, "+model.params.width=5").status == 0
    line = ["export.variants=[fp32]", f"data.home={tmp_path}/data", *QUICK]
    done = command("export", *line)
    assert done.status == 2
    assert "model.target=nets_to_export.net" in done.err
    done = command("export", *line, *custom)
    assert done.status == 0, done.err
    engine = Engine(tmp_path / "outputs/latest/export/fp32")
    assert engine.num_features == 5
