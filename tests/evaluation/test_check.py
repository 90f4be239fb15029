"""Whether a run is fit to be cited, and the card of its model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from landuse.evaluation.report.card import _without_folders
from tests.conftest import Run, overrides
from tests.run_folders import commands, load

LICENCE = "data.licence='CC0 [1.0]'"
GROUND = "data.gsd=0.3"


@pytest.fixture(scope="module")
def made(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run."""
    where = tmp_path_factory.mktemp("checked")
    commands(where, ["train", *overrides(image_folder, where), "run_name=x", LICENCE, GROUND], ["evaluate"])
    return where


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it, of clean code."""
    shutil.copytree(made / "outputs", tmp_path / "outputs", symlinks=True)
    folder = tmp_path / "outputs/train/folder_cnn/x"
    change(folder / "provenance.json", lambda content: content.update(git_commit="c" * 40, git_dirty=False))
    return folder


def change(path: Path, how: Callable[[dict], object]) -> None:
    content = load(path)
    how(content)
    path.write_text(json.dumps(content))


def wrong(err: str) -> list[str]:
    return [line.split()[1] for line in err.splitlines() if line.startswith("NOT")]


def test_a_run_that_is_fit(command: Run, run: Path) -> None:
    done = command("report", "check")
    assert done.status == 0 and "fit to be cited: " in done.err, done.err
    assert wrong(done.err) == [] and "alone, so say so" in done.err


def test_seeds_are_stated(command: Run, tiny: list[str], run: Path) -> None:
    assert command("train", *tiny, "run_name=y", LICENCE, "seed=1").status == 0
    assert command("evaluate").status == 0
    done = command("report", "check", f"run={run}")
    assert done.status == 0 and "seeds         0, 1: mean " in done.err, done.err


def test_looking_twice_at_the_test_split(command: Run, run: Path) -> None:
    assert command("evaluate").status == 0  # the same again, which tells nobody more
    assert command("report", "check").status == 0
    assert command("evaluate", "evaluation.split=val", "evaluation.symmetries=true").status == 0
    assert command("report", "check").status == 0
    assert command("evaluate", "evaluation.symmetries=true").status == 0
    done = command("report", "check")
    assert done.status == 1 and wrong(done.err) == ["test"] and "3 evaluation(s) of 2" in done.err, done.err


def remove(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def shorten_history(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(lines[0])


def another_seed(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    assert "seed: 0\n" in text
    (run / "config.yaml").write_text(text.replace("seed: 0\n", "seed: 5\n", 1))


def other_weights(run: Path) -> None:
    with (run / "model/model.safetensors").open("ab") as file:
        file.write(b"\0")


def resumed(**of_then: object) -> Callable[[Path], None]:
    """As if its first part had been made otherwise."""
    part = {"git_commit": "c" * 40, "git_dirty": False, "changed": {}} | of_then
    return lambda run: change(run / "provenance.json", lambda content: content.update(resumed_from=[part]))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (remove("train.log"), ["files"]),
        (remove("metrics.jsonl"), ["files"]),
        (remove("evaluations.jsonl"), ["test"]),
        (remove("config.yaml"), ["files"]),
        (shorten_history, ["epochs", "best"]),
        (another_seed, ["config"]),
        (other_weights, ["model"]),
        (lambda run: change(run / "summary.json", lambda c: c.update(status="interrupted")), ["status"]),
        (lambda run: change(run / "summary.json", lambda c: c.update(data_fingerprint="0")), ["data"]),
        (lambda run: change(run / "provenance.json", lambda c: c.update(split_fingerprint="0")), ["split"]),
        (lambda run: change(run / "provenance.json", lambda c: c.update(git_dirty=True)), ["code"]),
        (lambda run: change(run / "provenance.json", lambda c: c.update(git_commit=5)), ["code"]),
        (resumed(git_dirty=True), ["code"]),
        (resumed(changed={"seed": [0, 1]}), ["code"]),
        (resumed(changed=None), ["code"]),  # another run's checkpoint
        (resumed(git_commit="d" * 40), ["code"]),
        (lambda run: change(run / "evaluation.json", lambda c: c.update(accuracy_ci95=[0.0, 1.0])), ["accuracy"]),
        (lambda run: change(run / "evaluation.json", lambda c: c.update(split="val")), ["split"]),
    ],
)
def test_what_makes_it_unfit(command: Run, run: Path, spoil: Callable[[Path], None], found: list[str]) -> None:
    spoil(run)
    done = command("report", "check")
    assert done.status == 1 and wrong(done.err) == found, done.err
    assert "is not fit to be cited" in done.err and "Traceback" not in done.err


def test_predictions_that_say_something_else(command: Run, run: Path) -> None:
    lines = (run / "predictions.csv").read_text().splitlines(keepends=True)
    (run / "predictions.csv").write_text("".join(lines[:-1]))
    done = command("report", "check")
    assert done.status == 1 and wrong(done.err) == ["accuracy"], done.err


def test_a_run_that_stopped_early_is_whole(command: Run, tiny: list[str], tmp_path: Path) -> None:
    few = ["trainer.epochs=50", "trainer.early_stopping=1", "trainer.lr=0.1", "trainer.clip_norm=1.0"]
    assert command("train", *tiny, *few, "run_name=x").status == 0
    folder = tmp_path / "outputs/train/folder_cnn/x"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) < 50
    done = command("report", "check")
    assert "ok   epochs" in done.err and ", stopped early" in done.err, done.err
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert "epochs" in wrong(command("report", "check").err)


def test_a_trial_of_a_part_is_no_result(command: Run, tiny: list[str]) -> None:
    assert command("train", *tiny, "trainer.limit_train_batches=2", "run_name=x").status == 0
    assert "whole" in wrong(command("report", "check").err)


def test_another_precision_or_dataset_is_no_second_look(command: Run, run: Path) -> None:
    ledger = run / "evaluations.jsonl"
    first = json.loads(ledger.read_text())
    others = [first | {"precision": "bf16"}, first | {"split_fingerprint": "other", "test_time_augmentation": True}]
    with ledger.open("a") as file:
        file.writelines(json.dumps(other) + "\n" for other in others)
        file.write('{"split": "te')  # cut short by a full disk
    assert command("evaluate").status == 0
    done = command("report", "check")
    assert done.status == 0 and "3 evaluation(s) of 1 " in done.err, done.err


def test_a_run_that_went_on_elsewhere_is_fit(command: Run, run: Path) -> None:
    resumed(changed={"trainer.device": ["cpu", "cuda"]})(run)
    assert command("report", "check").status == 0


def test_lines_cannot_be_forged(command: Run, run: Path) -> None:
    change(run / "summary.json", lambda content: content.update(status="x\nfit to be cited: all"))
    done = command("report", "check")
    assert done.status == 1 and "\nfit to be cited" not in done.err


def test_folders_are_not_published_with_the_model(run: Path) -> None:
    text = (run / "model/README.md").read_text()
    assert "data.root=.../images" in text and str(run.parents[4]) not in text


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("model=cnn trainer.lr=0.1", "model=cnn trainer.lr=0.1"),
        ("data.archive.url=https://me:pw@host/x/a.zip?signature=s", "data.archive.url=.../a.zip"),
        ("'data.root=/home/John Doe/x'", "data.root=.../x"),
        (r"'data.root=C:\Users\me\x'", "data.root=.../x"),
        ("data.split.files=lists/a", "data.split.files=.../a"),
        ("an unbalanced 'quote", ""),
    ],
)
def test_what_a_card_says_of_a_command(typed: str, shown: str) -> None:
    assert _without_folders(typed) == shown


def test_the_card_says_what_was_measured(command: Run, run: Path) -> None:
    text = (run / "model/README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-classification"
    record, summary = load(run / "evaluation.json"), load(run / "summary.json")
    low, high = record["accuracy_ci95"]
    shown = f"{100 * record['accuracy']:.2f} % (95 % interval {100 * low:.2f} % to {100 * high:.2f} %)"
    assert f"| accuracy | {shown} |" in body
    assert load(run / "model/model.json")["extra"]["gsd"] == 0.3
    assert "* ground sampling distance: 0.3 m a pixel; images of 16 px or 4.8 m a side" in body
    assert "licence: CC0 \\[1.0\\]" in body and "images: 36 train, 12 val, 12 test" in body
    for name, scores in record["per_class"].items():
        assert f"| {name} | {100 * scores['f1']:.1f} % |" in body
    assert summary["data_fingerprint"][:12] in body and "python -m landuse.train" in body


def test_the_card_of_a_run_that_was_not_evaluated(command: Run, tiny: list[str], tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x").status == 0
    text = (tmp_path / "outputs/train/folder_cnn/x/model/README.md").read_text()
    assert "The test split has not been opened" in text and "licence: not stated" in text
    assert "ground sampling distance: not stated (data.gsd); images of 16 px a side" in text
