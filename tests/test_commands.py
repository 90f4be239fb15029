"""The commands from end to end, on tiny images, through their real doors."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn import metrics as sk

from landuse import runs
from landuse.evaluation.predictions import read_csv
from landuse.models import registry
from landuse.tracking import metrics_file
from landuse.training.loop import Trainer
from tests.run_folders import RUN_FILES, files, load, training


def test_train_then_evaluate(command, tiny, tmp_path: Path) -> None:
    done = command("train", *tiny, "run_name=first", "trainer.epochs=6")
    assert done.status == 0, done.err
    run = tmp_path / "outputs" / "train" / "folder_cnn" / "first"
    assert files(run) == RUN_FILES
    assert (tmp_path / "outputs" / "latest").resolve() == run
    summary, history = load(run / "summary.json"), metrics_file.read(run / "metrics.jsonl")
    assert summary["status"] == "completed"
    assert summary["val/accuracy"] == max(record["val/accuracy"] for record in history)
    assert len(history) == 6
    provenance = load(run / "provenance.json")
    assert provenance["command_line"].startswith("python -m landuse.train data=folder")
    assert {
        "git_commit",
        "git_dirty",
        "config_hash",
        "data_fingerprint",
        "split_fingerprint",
        "lock_hash",
        "seed",
    } <= set(provenance)
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["epochs"] == 6

    # What training said of the validation split, evaluate says exactly.
    done = command("evaluate", "evaluation.split=val")
    assert done.status == 0, done.err
    val = load(run / "evaluation-val.json")
    assert (val["accuracy"], val["loss"]) == (summary["val/accuracy"], summary["val/loss"])

    done = command("evaluate", f"run={run}/model")
    assert done.status == 0, done.err
    assert "95 % interval" in done.err
    check_against_scikit_learn(run)
    for name in ("confusion", "mistakes", "per_class", "reliability"):
        with Image.open(run / "figures" / f"{name}.png") as figure:
            assert figure.format == "PNG" and len(figure.getcolors() or ()) > 2  # something is drawn
    assert not (tmp_path / "outputs" / "evaluate").exists()  # it writes into the run alone


def check_against_scikit_learn(run: Path) -> None:
    evaluation, predictions = load(run / "evaluation.json"), read_csv(run / "predictions.csv")
    labels, predicted = predictions.labels, predictions.probabilities.argmax(1)
    assert evaluation["accuracy"] == sk.accuracy_score(labels, predicted)
    assert evaluation["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"), abs=1e-15)
    assert evaluation["confusion_matrix"] == sk.confusion_matrix(labels, predicted).tolist()
    assert evaluation["loss"] == pytest.approx(-np.log(predictions.probabilities[range(len(labels)), labels]).mean())
    scores = sk.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for i, name in enumerate(evaluation["classes"]):
        ours = evaluation["per_class"][name]
        assert [ours["precision"], ours["recall"], ours["f1"]] == pytest.approx(
            [scores[j][i] for j in range(3)], abs=1e-15
        )
        assert ours["support"] == scores[3][i]
    low, high = evaluation["accuracy_ci95"]
    assert low <= evaluation["accuracy"] <= high
    confidence, correct = predictions.confidence, predicted == labels
    edges = np.linspace(0, 1, 16)
    gaps = [
        abs(correct[inside].mean() - confidence[inside].mean()) * inside.mean()
        for low, high in itertools.pairwise(edges)
        if (inside := (confidence > low) & (confidence <= high)).any()
    ]
    assert evaluation["ece"] == pytest.approx(sum(gaps), abs=1e-12)


def test_training_never_opens_the_test_split(command, tiny, tmp_path: Path) -> None:
    assert command("preprocess", *tiny).status == 0
    (pack,) = (tmp_path / "data" / "packs").glob("folder-*")
    (pack / "test.npy").unlink()
    assert command("train", *tiny).status == 0


def test_same_command_same_result(command, tiny, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert command("train", *tiny, f"hydra.run.dir={tmp_path}/{name}", "augment=strong").status == 0
    assert (tmp_path / "a/model/model.safetensors").read_bytes() == (
        tmp_path / "b/model/model.safetensors"
    ).read_bytes()
    assert load(tmp_path / "a/summary.json")["val/loss"] == load(tmp_path / "b/summary.json")["val/loss"]


def test_a_run_is_never_overwritten(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x").status == 0
    run = tmp_path / "outputs/train/folder_cnn/x"
    before = (run / "model/model.safetensors").read_bytes()
    done = command("train", *tiny, "run_name=x", "seed=1")
    assert done.status == 2
    assert "already holds a run" in done.err
    assert (run / "model/model.safetensors").read_bytes() == before
    done = command("train", *tiny, "run_name=x", "trainer.resume=auto")
    assert done.status == 0
    assert "finished already" in done.err
    done = command("train", *tiny, "run_name=x", "trainer.resume=auto", "trainer.lr=0.5")
    assert done.status == 2
    assert "trainer.lr=0.01 then and 0.5 now" in done.err
    assert files(run) == RUN_FILES


def test_a_training_split_of_one_image_is_refused(command, tiny, tmp_path: Path) -> None:
    done = command("train", *tiny, "data.max_images=1")
    assert done.status == 2
    assert "has 1 image(s), and batch norm needs 2: raise data.max_images" in done.err
    assert not (tmp_path / "outputs").exists()


def test_one_process_at_a_time_in_a_run_folder(command, tiny, tmp_path: Path) -> None:
    with runs.claimed(tmp_path / "run"):
        done = command("train", *tiny, f"hydra.run.dir={tmp_path}/run")
    assert done.status == 2
    assert "Another process is training" in done.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_a_resumable_run(command, tiny, tmp_path: Path, number: int, status: int) -> None:
    run = tmp_path / "run"
    arguments = [*tiny, f"hydra.run.dir={run}", "trainer.epochs=500", "trainer.resume=auto"]
    process = training(arguments, tmp_path, run)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Interrupted in epoch" in err
    assert "Traceback" not in err
    assert not (run / ".lock").exists()
    assert load(run / "summary.json")["status"] == "interrupted"
    epochs = len(metrics_file.read(run / "metrics.jsonl"))
    arguments[-2] = f"trainer.epochs={epochs + 1}"
    assert command("train", *arguments).status == 0
    assert [r["epoch"] for r in metrics_file.read(run / "metrics.jsonl")] == list(range(epochs + 1))


def test_unfinished_goes_on_with_an_interrupted_run(command, tiny, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [*tiny, f"hydra.run.dir={run}", "trainer.epochs=500", "trainer.resume=unfinished"]
    process = training(arguments, tmp_path, run)
    process.kill()
    process.communicate(timeout=30)
    before = metrics_file.read(run / "metrics.jsonl")
    process = subprocess.Popen(
        [sys.executable, "-m", "landuse.train", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("epoch"):
            break
    process.kill()
    process.communicate(timeout=30)
    assert any("resumed from" in line for line in said), said
    first = int(said[-1].split()[1].partition("/")[0])
    assert first >= len(before)  # the last epoch may have been killed between its line and its checkpoint
    history = metrics_file.read(run / "metrics.jsonl")
    assert [record["epoch"] for record in history] == list(range(len(history)))


@pytest.mark.parametrize("change", [[], ["model.width=5"], ["seed=1"]])
def test_unfinished_replaces_any_other_run(command, tiny, tmp_path: Path, change: list[str]) -> None:
    """A finished run, or one of another configuration; files that are not of a run stay."""
    run = tmp_path / "run"
    arguments = [*tiny, f"hydra.run.dir={run}", "trainer.resume=unfinished"]
    assert command("train", *arguments).status == 0
    (run / "evaluation.json").write_text("{}")
    (run / "notes.txt").write_text("mine")
    done = command("train", *arguments, *change)
    assert done.status == 0, done.err
    assert "resumed" not in done.err
    assert [record["epoch"] for record in metrics_file.read(run / "metrics.jsonl")] == [0, 1]
    assert files(run) == sorted([*RUN_FILES, "notes.txt"])


def test_failure_shows_its_traceback(command, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Trainer) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Trainer, "fit", broken)
    done = command("train", *tiny)
    assert done.status == 1
    assert "Traceback" in done.err
    assert "RuntimeError: out of luck" in done.err


def test_divergence_is_one_message(command, tiny, tmp_path: Path) -> None:
    done = command(
        "train", *tiny, "trainer.lr=1e38", "trainer.optimizer=sgd", "trainer.scheduler=constant", "run_name=x"
    )
    assert done.status == 2
    assert "Traceback" not in done.err
    assert "Lower trainer.lr or set trainer.clip_norm=1.0." in done.err
    assert load(tmp_path / "outputs/train/folder_cnn/x/summary.json")["status"] == "failed"


def test_download_and_preprocess(command, tiny) -> None:
    done = command("download", *tiny)
    assert done.status == 0
    assert "needs no download" in done.err
    done = command("preprocess", *tiny)
    assert done.status == 0
    assert "3 classes, 36 train, 12 val, 12 test" in done.err


def test_report_again(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny).status == 0
    report = tmp_path / "outputs/latest/report.html"
    report.unlink()
    assert command("report").status == 0
    assert report.stat().st_size > 1000


def test_multirun(command, tiny, tmp_path: Path) -> None:
    done = command("train", "--multirun", *tiny, "seed=1,2", "run_name=sweep")
    assert done.status == 0, done.err
    for job in ("0", "1"):
        assert load(tmp_path / "outputs/multirun/sweep" / job / "summary.json")["status"] == "completed"


def test_progress_bar_on_a_terminal(command, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    done = command("train", *tiny)
    assert done.status == 0
    assert "time left" in done.err


def test_each_size_is_tried_once(command, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, really_check = [], registry.check_output
    monkeypatch.setattr(registry, "check_output", lambda *args: sizes.append(args[-1]) or really_check(*args))
    assert command("train", *tiny, "augment.size=16", "augment.start_size=8").status == 0
    assert sorted(sizes) == [8, 16]
