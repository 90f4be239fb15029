"""``trainer.resume`` through the command: after a kill at the worst moment, under another configuration, elsewhere."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from benchmarks.kills import differences
from landuse.tracking import metrics_file
from landuse.training.loop import Trainer

from .run_folders import RUN_FILES, files, load


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The process ends as this file is about to take its name."""
    really_replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.name == name:
            raise SystemExit(137)
        return really_replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)


@pytest.mark.parametrize("name", ["metrics.jsonl", "best.pt", "last.pt", "model.safetensors", "report.html"])
def test_the_same_command_completes_a_killed_run(
    command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In its first epoch (the first three) or behind its last one, when the run may be called finished already."""
    assert command("train", *tiny, "run_name=whole").status == 0
    with monkeypatch.context() as patch:
        kill_at(patch, name)
        assert command("train", *tiny, "run_name=x").status == 137
    done = command("train", *tiny, "run_name=x", "trainer.resume=auto")
    assert done.status == 0, done.err
    whole, run = (tmp_path / "outputs/train/folder_cnn" / name for name in ("whole", "x"))
    assert files(run) == RUN_FILES
    assert load(run / "summary.json")["status"] == "completed"
    for path in ("model/model.safetensors", "figures/curves.csv"):
        assert (run / path).read_bytes() == (whole / path).read_bytes()


def test_a_finished_runs_model_can_be_had_again(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x").status == 0
    model = tmp_path / "outputs/train/folder_cnn/x/model"
    before = (model / "model.safetensors").read_bytes()
    shutil.rmtree(model)
    assert command("train", *tiny, "run_name=x", "trainer.resume=auto").status == 0
    assert (model / "model.safetensors").read_bytes() == before


def test_a_damaged_history_is_named(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x").status == 0
    run = tmp_path / "outputs/train/folder_cnn/x"
    (run / "summary.json").unlink()
    (run / "metrics.jsonl").write_text("garbage\n" + (run / "metrics.jsonl").read_text())
    done = command("train", *tiny, "run_name=x", "trainer.resume=auto", "trainer.epochs=3")
    assert done.status == 2
    assert "metrics.jsonl, line 1 is no record of an epoch" in done.err
    assert not (run / "summary.json").exists()


def test_a_run_without_its_checkpoint_is_not_begun_anew(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=x").status == 0
    run = tmp_path / "outputs/train/folder_cnn/x"
    shutil.rmtree(run / "checkpoints")
    (run / "summary.json").unlink()
    done = command("train", *tiny, "run_name=x", "trainer.resume=auto")
    assert done.status == 2
    assert "holds 2 epochs but no checkpoint" in done.err
    assert len(metrics_file.read(run / "metrics.jsonl")) == 2


@pytest.mark.parametrize(
    "change",
    [
        "trainer.ema=0.9",
        "trainer.optimizer=sgd",
        "trainer.batch_size=6",
        "model.width=5",
        "seed=7",
        "data.max_images=30",
        "trainer.lr=0.5",
    ],
)
def test_a_resume_that_does_not_fit_changes_nothing(command, tiny, tmp_path: Path, change: str) -> None:
    assert command("train", *tiny, "run_name=x").status == 0
    run = tmp_path / "outputs/train/folder_cnn/x"
    summary = load(run / "summary.json")
    (run / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = command("train", *tiny, "run_name=x", "trainer.resume=auto", "trainer.epochs=4", change)
    assert done.status == 2
    key, _, value = change.partition("=")
    assert "holds a run of another configuration" in done.err
    assert re.search(rf"\({key}=\S+ then and {value} now\): choose another run_name=NAME", done.err)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_resume_takes_this_runs_weight_decay(command, tiny, tmp_path: Path) -> None:
    """The checkpoint brings the optimiser's state, not its settings."""
    kept = []
    for decay in ("0.01", "0.9"):
        assert command("train", *tiny, f"run_name=short{decay}").status == 0
        short = tmp_path / f"outputs/train/folder_cnn/short{decay}"
        resumed = [
            f"trainer.resume={short}",
            "trainer.epochs=4",
            f"trainer.weight_decay={decay}",
            f"run_name=long{decay}",
        ]
        assert command("train", *tiny, *resumed).status == 0
        kept.append((tmp_path / f"outputs/train/folder_cnn/long{decay}/checkpoints/last.pt").read_bytes())
    assert kept[0] != kept[1]


def test_resume_from_another_run_goes_on_longer(command, tiny, tmp_path: Path) -> None:
    assert command("train", *tiny, "run_name=short", "trainer.scheduler=constant").status == 0
    short = tmp_path / "outputs/train/folder_cnn/short"
    done = command(
        "train", *tiny, "run_name=long", "trainer.scheduler=constant", "trainer.epochs=4", f"trainer.resume={short}",
        f"hardware.num_threads={load(short / 'provenance.json')['hardware']['num_threads'] + 1}",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert re.search(r"not all is as it was \(hardware: num_threads \d then, \d now\)", done.err)
    assert "at epoch 3" in done.err
    assert re.search(r"under another configuration \(.*trainer.epochs=2 then and 4 now\)", done.err)
    assert [r["epoch"] for r in metrics_file.read(short.parent / "long" / "metrics.jsonl")] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["provenance.json", "config.yaml"])
def test_a_run_from_anothers_checkpoint_that_is_killed_at_its_start_goes_on(
    command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert command("train", *tiny, "run_name=short").status == 0
    short, run = (tmp_path / "outputs/train/folder_cnn" / name for name in ("short", "x"))
    longer = [*tiny, "run_name=x", "trainer.epochs=4"]
    with monkeypatch.context() as patch:
        kill_at(patch, name)
        assert command("train", *longer, f"trainer.resume={short}").status == 137
    done = command("train", *longer, "trainer.resume=auto")
    assert done.status == 0, done.err
    assert [record["epoch"] for record in metrics_file.read(run / "metrics.jsonl")] == [0, 1, 2, 3]
    parts = load(run / "provenance.json")["resumed_from"]
    assert {(part["epoch"], part["changed"]) for part in parts} == {(2, None)}  # not one that was made in one go


def test_a_signal_in_the_last_step_completes_the_job_and_ends_the_sweep(
    command, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_fit = Trainer.fit

    def fit(self: Trainer) -> None:
        really_fit(self)
        self.stop_signal = signal.SIGTERM

    monkeypatch.setattr(Trainer, "fit", fit)
    assert command("train", *tiny, "run_name=x").status == 0
    done = command("train", "--multirun", *tiny, "seed=1,2", "run_name=sweep")
    assert done.status == 128 + signal.SIGTERM
    sweep = tmp_path / "outputs/multirun/sweep"
    assert load(sweep / "0/summary.json")["status"] == "completed"
    assert not (sweep / "1/summary.json").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_deterministic_runs_are_identical(command, tiny, tmp_path: Path, precision: str) -> None:
    everything = [
        "augment=strong", "trainer.ema=0.9", "trainer.accumulate=2", "trainer.deterministic=true",
        f"hardware.precision={precision}",
    ]  # fmt: skip
    try:
        for name in ("one", "two"):
            assert command("train", *tiny, *everything, f"hydra.run.dir={tmp_path}/{name}").status == 0
    finally:
        torch.use_deterministic_algorithms(False)
    assert list(differences(tmp_path / "one", tmp_path / "two")) == []
