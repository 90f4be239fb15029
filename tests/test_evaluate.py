"""The command evaluate, on runs of tiny images."""

import json
from pathlib import Path

import pytest

from tests.run_folders import load


def test_evaluate_without_a_run(command) -> None:
    done = command("evaluate")
    assert done.status == 2
    assert "train first" in done.err


def test_evaluate_refuses_other_classes(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny).status == 0
    done = command(
        "evaluate",
        "data=synthetic",
        "data.image_size=16",
        "data.synthetic.images_per_class=5",
        f"data.home={tmp_path}/data",
    )
    assert done.status == 2
    assert "field, roof, water" in done.err


def test_evaluate_another_split_leaves_the_runs_own_result(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "trainer.epochs=6").status == 0
    assert command("evaluate").status == 0
    run = tmp_path / "outputs/latest"
    own = (run / "evaluation.json").read_bytes()
    done = command("evaluate", "data.split.seed=5", "evaluation.symmetries=true", "evaluation.batch_size=4")
    assert done.status == 0, done.err
    assert "may have been trained on" in done.err
    assert (run / "evaluation.json").read_bytes() == own
    (other,) = run.glob("evaluation-folder-*.json")
    assert load(other)["test_time_augmentation"] is True
    assert load(other)["split_fingerprint"] != load(run / "evaluation.json")["split_fingerprint"]


def test_evaluate_measures_at_the_models_size(command, tiny, image_folder: Path, tmp_path: Path) -> None:
    assert command("train", *tiny).status == 0
    # data=folder alone means 128 px; the model was made at 16.
    done = command("evaluate", "data=folder", f"data.root={image_folder}", f"data.home={tmp_path}/data")
    assert done.status == 0, done.err
    assert load(tmp_path / "outputs/latest/evaluation.json")["image_size"] == 16
    done = command("evaluate", "data.image_size=24")
    assert done.status == 0, done.err
    assert "data.image_size=24, but the model was made at 16 px" in done.err


def test_evaluate_needs_only_the_exported_model(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=base", "data.max_images=30").status == 0
    base = tmp_path / "outputs/train/folder_cnn/base"
    weights = tmp_path / "w.safetensors"
    weights.write_bytes((base / "model/model.safetensors").read_bytes())
    done = command("train", *tiny, f"model.weights={weights}", "model.freeze_backbone=true", "data.max_images=30")
    assert done.status == 0, done.err
    assert f"{weights}: loaded 14 of 14 tensors" in done.err
    assert "loaded 14 of 14" in (tmp_path / "outputs/latest/train.log").read_text()
    assert "30 train" in done.err
    weights.unlink()
    assert command("evaluate").status == 0
    assert load(tmp_path / "outputs/latest/evaluation.json")["num_images"] == 12  # the whole test split


def test_evaluate_takes_a_recipe(command, tiny, tmp_path: Path) -> None:
    recipe = tmp_path / "mine" / "experiment" / "averaged.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\nevaluation:\n  symmetries: true\n")
    assert command("train", *tiny).status == 0
    done = command("evaluate", "--config-dir", str(tmp_path / "mine"), "experiment=averaged", *tiny)
    assert done.status == 0, done.err
    assert load(tmp_path / "outputs/latest/evaluation.json")["test_time_augmentation"] is True


def test_evaluate_refuses_another_model(command, tiny) -> None:
    assert command("train", *tiny).status == 0
    done = command("evaluate", "model=resnet18")
    assert done.status == 2
    assert "holds a cnn" in done.err


def test_custom_model(command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "class Tiny(nn.Module):\n"
        "    def __init__(self, num_classes, width):\n"
        "        super().__init__()\n"
        "        self.net = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                                 nn.Linear(width, num_classes))\n"
        "    def forward(self, x):\n"
        "        return self.net(x)\n"
    )
    custom = ["model=custom", "model.target=my_nets.Tiny", "+model.params.width=3"]
    overrides = [o for o in tiny if not o.startswith("model")]
    done = command("train", *overrides, *custom)
    assert done.status == 0, done.err
    done = command("evaluate")
    assert done.status == 2
    assert "model.target" in done.err  # the folder's own word is not enough to import a class
    done = command("evaluate", *custom)
    assert done.status == 0, done.err


def test_the_printed_command_evaluates_a_custom_model(command, tiny, tmp_path: Path) -> None:
    """With parameters and a name of its own, of which the line says nothing."""
    (tmp_path / "nets_with_params.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, width):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
    )
    overrides = [override for override in tiny if not override.startswith("model")]
    custom = ["model=custom", "model.target=nets_with_params.net", "+model.params.width=3", "model.name=mynet"]
    done = command("train", *overrides, *custom)
    assert done.status == 0, done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("next"))
    done = command("evaluate", *line.partition("landuse.evaluate ")[2].split())
    assert done.status == 0, done.err


def test_evaluate_refuses_another_kind_of_model(command, tiny) -> None:
    assert command("train", *tiny).status == 0
    done = command("evaluate", "model=custom", "model.target=a.b")
    assert done.status == 2
    assert "model=custom, but" in done.err and "holds a cnn" in done.err
    done = command("evaluate", "model.width=99")
    assert done.status == 2
    assert "model.width=99, but" in done.err and "width=4" in done.err


@pytest.mark.parametrize(
    ("change", "suffix"),
    [("data.max_images=6", "-6-images"), ("data.image_size=24", "-24px"), ("evaluation.split=val", "-val")],
)
def test_a_partial_or_other_measurement_has_files_of_its_own(
    command, tiny, tmp_path: Path, change: str, suffix: str
) -> None:
    assert command("train", *tiny).status == 0
    assert command("evaluate").status == 0
    run = tmp_path / "outputs/latest"
    own = {name: (run / name).read_bytes() for name in ("evaluation.json", "predictions.csv", "scores.json")}
    done = command("evaluate", change)
    assert done.status == 0, done.err
    assert {name: (run / name).read_bytes() for name in own} == own
    assert (run / f"evaluation{suffix}.json").is_file() and (run / f"predictions{suffix}.csv").is_file()
    assert f"evaluation{suffix}.json" in done.err


def test_evaluate_refuses_a_damaged_run(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny).status == 0
    model = tmp_path / "outputs/latest/model"
    description = load(model / "model.json")
    (model / "model.json").write_text(json.dumps(description | {"image_size": 32}))
    done = command("evaluate")
    assert done.status == 2
    assert "model.json says 32 px and config.yaml 16 px" in done.err
    (model / "model.json").write_text(json.dumps(description))
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()
    done = command("evaluate")
    assert done.status == 2
    assert "has no model.safetensors" in done.err


def test_robustness(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny).status == 0
    done = command("evaluate", "robustness=true")
    assert done.status == 0, done.err
    run = tmp_path / "outputs/latest"
    result, evaluation = load(run / "robustness.json"), load(run / "evaluation.json")
    assert (result["clean"], result["num_images"]) == (evaluation["accuracy"], 12)
    assert result["model_fingerprint"] == evaluation["model_fingerprint"]
    assert {len(values) for values in result["accuracy"].values()} == {5}
    assert all(name in done.err for name in result["accuracy"])
    assert (run / "figures/robustness.png").is_file() and "Robustness" in (run / "report.html").read_text()
    done = command("evaluate", "robustness=true", "evaluation.split=val")
    assert done.status == 0, done.err
    assert load(run / "robustness-val.json")["split"] == "val" and load(run / "robustness.json") == result
