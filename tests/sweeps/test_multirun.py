"""Sweeps as Hydra multiruns, with real trainings of a second each."""

import csv
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from landuse.files import write_json
from tests.run_folders import files, load

LANDUSE = ["--multirun", "hydra/sweeper=landuse", "hydra.sweeper.study_name=s"]
SWEPT = ["trainer.lr=interval(0.001,0.02)"]


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


@pytest.fixture
def sweep(command, tiny, shared_data):
    """Run a sweep of two trials in this process, unless said otherwise."""

    def run(*overrides: str):
        return command("train", *LANDUSE, *tiny, f"data.home={shared_data}", "hydra.sweeper.n_trials=2", *overrides)

    return run


def leaderboard(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_and_its_best_trial_again(sweep, command, tmp_path: Path, shared_data: Path) -> None:
    done = sweep(*SWEPT)
    assert done.status == 0, done.err
    folder = tmp_path / "outputs/sweeps/s"
    rows = leaderboard(folder)
    assert list(rows[0]) == ["trial", "state", "value", "epochs", "seconds", "run", "trainer.lr"]
    assert sorted(row["trial"] for row in rows) == ["0", "1"]
    assert [float(row["value"]) for row in rows] == sorted((float(row["value"]) for row in rows), reverse=True)
    for row in rows:
        summary = load(tmp_path / row["run"] / "summary.json")
        assert float(row["value"]) == pytest.approx(summary["val/accuracy"], rel=1e-5)
        assert int(row["epochs"]) == 2 and not (tmp_path / row["run"] / "error.txt").exists()
    assert "2 of 2 trials finished (2 complete)" in done.err
    assert not (tmp_path / "outputs/latest").exists() and "\nnext " not in done.err and "continue" not in done.err
    (retrain,) = [line for line in done.err.splitlines() if line.startswith("retrain it ")]
    words = retrain.split()[2:]
    assert words[:6] == ["python", "-m", "landuse.train", "--config-dir", "outputs/sweeps", "+s=best"]
    assert words[6:] == [
        f"hardware.num_threads={load(tmp_path / rows[0]['run'] / 'provenance.json')['hardware']['num_threads']}"
    ]
    assert (folder / "sweep.log").read_text().count("begins") == 2

    again = command("train", *words[3:], f"data.home={shared_data}", "run_name=x")
    assert again.status == 0, again.err
    best, run = tmp_path / rows[0]["run"], tmp_path / "outputs/train/folder_cnn/x"
    assert load(run / "summary.json")["val/accuracy"] == load(best / "summary.json")["val/accuracy"]
    assert (run / "model/model.safetensors").read_bytes() == (best / "model/model.safetensors").read_bytes()


def test_a_finished_sweep_starts_nothing(sweep, tmp_path: Path) -> None:
    one = [*SWEPT, "hydra.sweeper.n_trials=1", "trainer.epochs=1"]
    assert sweep(*one).status == 0
    folder = tmp_path / "outputs/sweeps/s"
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (folder / "trials").rglob("*.*")}
    (folder / "leaderboard.csv").unlink()
    done = sweep(*one)
    assert done.status == 0 and "begins" not in done.err
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert len(leaderboard(folder)) == 1


def test_an_interrupted_sweep_goes_on(sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second trial's first epoch, before anything is written of it."""
    from landuse.training.loop import Trainer

    fit, calls = Trainer.fit, []

    def interrupted(self: Trainer) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        fit(self)

    monkeypatch.setattr(Trainer, "fit", interrupted)
    assert sweep(*SWEPT).status == 130
    folder = tmp_path / "outputs/sweeps/s"
    states = {row["trial"]: row["state"] for row in leaderboard(folder)}
    assert states == {"0": "complete", "1": "interrupted", "2": "waiting"}
    summary = (folder / "trials/0/summary.json").read_bytes()
    done = sweep(*SWEPT)
    assert done.status == 0, done.err
    rows = {row["trial"]: row for row in leaderboard(folder)}
    assert [rows[number]["state"] for number in "012"] == ["complete", "interrupted", "complete"]
    assert rows["1"]["trainer.lr"] == rows["2"]["trainer.lr"] != rows["0"]["trainer.lr"]
    assert (folder / "trials/0/summary.json").read_bytes() == summary


def test_a_signal_after_a_trial_was_complete_costs_nothing(sweep, tmp_path: Path, monkeypatch) -> None:
    from landuse.errors import Interrupted

    def interrupted(path: Path, content: dict) -> None:
        write_json(path, content)
        if path.name == "summary.json":
            raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr("landuse.training_run.write_json", interrupted)
        assert sweep(*SWEPT, "trainer.epochs=1").status == 143
    assert [row["state"] for row in leaderboard(tmp_path / "outputs/sweeps/s")] == ["complete"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_ends_in_another_error_is_no_failure(
    sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    """As Hydra and OmegaConf now and then make of one that comes while they compose a configuration."""

    def interrupted(*_: object) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            raise AttributeError("something half done")

    with monkeypatch.context() as patch:
        patch.setattr("landuse.training_run._initial_model", interrupted)
        assert sweep(*SWEPT).status == status
    folder = tmp_path / "outputs/sweeps/s"
    assert {row["trial"]: row["state"] for row in leaderboard(folder)} == {"0": "interrupted", "1": "waiting"}
    done = sweep(*SWEPT)
    assert done.status == 0 and [row["state"] for row in leaderboard(folder)].count("complete") == 2


def test_failures_are_on_record_and_the_sweep_goes_on(sweep, tmp_path: Path) -> None:
    done = sweep("trainer.lr=0.01,1e30", "hydra/sweeper/sampler=grid")
    assert done.status == 0, done.err
    folder = tmp_path / "outputs/sweeps/s"
    states = {row["trainer.lr"]: row for row in leaderboard(folder)}
    assert states["0.01"]["state"] == "complete" and states["1e+30"]["state"] == "failed"
    error = (tmp_path / states["1e+30"]["run"] / "error.txt").read_text()
    assert error.startswith("Traceback") and "NonFiniteLossError: The training loss is not finite" in error
    assert "failed      trial 1: NonFiniteLossError" in done.err
    assert done.err.index("failed      trial 1") < done.err.index("1 of 2 trials finished")


def test_max_failures(sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from landuse.training.loop import Trainer

    def out_of_memory(self: Trainer) -> None:
        raise MemoryError("cannot allocate\nany more")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", out_of_memory)
        done = sweep(*SWEPT, "hydra.sweeper.max_failures=1")
    assert done.status == 1
    assert "error: More than max_failures=1 trials failed: 2" in done.err and "Traceback" not in done.err
    assert [row["state"] for row in leaderboard(tmp_path / "outputs/sweeps/s")] == ["failed", "failed"]
    assert "MemoryError" in (tmp_path / "outputs/sweeps/s/trials/1/error.txt").read_text()
    assert sweep(*SWEPT, "hydra.sweeper.n_trials=1").status == 0


def test_a_training_that_exits_is_a_failure(sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As code of a model's own may; an interruption would be tried again for ever."""
    from landuse.training.loop import Trainer

    monkeypatch.setattr(Trainer, "fit", lambda _: sys.exit(0))
    done = sweep(*SWEPT, "hydra.sweeper.max_failures=0")
    assert done.status == 1 and "trial 0, RuntimeError: the training ended by SystemExit 0." in done.err
    folder = tmp_path / "outputs/sweeps/s"
    assert [row["state"] for row in leaderboard(folder)] == ["failed"]
    assert "SystemExit: 0" in (folder / "trials/0/error.txt").read_text()


def test_a_reason_that_is_no_utf_8_is_on_record(sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that names a file whose name is none."""
    from landuse.training.loop import Trainer

    def broken(self: Trainer) -> None:
        raise RuntimeError("cannot read <b>\udcff\x00")

    monkeypatch.setattr(Trainer, "fit", broken)
    done = sweep(*SWEPT, "hydra.sweeper.max_failures=0")
    assert done.status == 1 and "trial 0, RuntimeError: cannot read <b>" in done.err
    folder = tmp_path / "outputs/sweeps/s"
    assert "cannot read <b>\\udcff" in (folder / "trials/0/error.txt").read_text()
    assert "cannot read &lt;b&gt;" in (folder / "sweep.html").read_text()


def test_a_pruned_trial_is_pruned_in_the_study(sweep, tmp_path: Path) -> None:
    """With next to no learning rate there is nothing to keep."""
    pruner = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1", "trainer.warmup_epochs=0"]
    done = sweep("trainer.lr=0.01,1e-9,1e-10", "hydra/sweeper/sampler=grid", "trainer.epochs=3", *pruner,
                 "hydra.sweeper.n_trials=3", "trainer.monitor=val/loss")  # fmt: skip
    assert done.status == 0, done.err
    folder = tmp_path / "outputs/sweeps/s"
    rows = {row["trainer.lr"]: row for row in leaderboard(folder)}
    assert [rows[lr]["state"] for lr in ("0.01", "1e-09", "1e-10")] == ["complete", "pruned", "pruned"]
    pruned = tmp_path / rows["1e-09"]["run"]
    assert load(pruned / "summary.json")["status"] == "pruned" and not (pruned / "error.txt").exists()
    assert int(rows["1e-09"]["epochs"]) < 3
    told = [json.loads(line) for line in (folder / "study.journal").read_text().splitlines()]
    assert [line["state"] for line in told if line["op_code"] == 6 and line["state"] != 0].count(2) == 2


def test_the_first_rung_is_after_one_epoch(sweep, tmp_path: Path) -> None:
    """A pruner's resources are epochs."""
    pruner = ["hydra/sweeper/pruner=successive_halving", "trainer.warmup_epochs=0", "trainer.monitor=val/loss"]
    done = sweep("trainer.lr=0.01,1e-9", "hydra/sweeper/sampler=grid", "trainer.epochs=3", *pruner)
    assert done.status == 0, done.err
    rows = {row["trainer.lr"]: row for row in leaderboard(tmp_path / "outputs/sweeps/s")}
    assert [(rows[lr]["state"], rows[lr]["epochs"]) for lr in ("0.01", "1e-09")] == [("complete", "3"), ("pruned", "1")]
    assert len((tmp_path / rows["1e-09"]["run"] / "metrics.jsonl").read_text().splitlines()) == 1


def test_groups_are_swept_and_the_best_recipe_names_the_choice(
    command, image_folder, tmp_path: Path, shared_data: Path
) -> None:
    tiny = ["data=folder", f"data.root={image_folder}", f"data.home={shared_data}", "data.image_size=64"]
    tiny += [
        "trainer.device=cpu",
        "trainer.epochs=1",
        "model.width=4",
        "trainer.limit_train_batches=2",
        "hardware.precision=fp32",
    ]
    done = command("train", *LANDUSE, *tiny, "model=slim_resnet,cnn", "hydra/sweeper/sampler=grid")
    assert done.status == 0, done.err
    folder = tmp_path / "outputs/sweeps/s"
    assert f"override /model: {leaderboard(folder)[0]['model']}" in (folder / "best.yaml").read_text()


def test_two_objectives_and_two_trials_at_once(sweep, tmp_path: Path) -> None:
    done = sweep(*SWEPT, "model.width=range(2,6)", "hydra.sweeper.objective=[val/accuracy,parameters]",
                 "hydra.sweeper.n_jobs=2", "trainer.epochs=1")  # fmt: skip
    assert done.status == 0, done.err
    rows = leaderboard(tmp_path / "outputs/sweeps/s")
    assert [row["state"] for row in rows] == ["complete"] * 2 and all(float(row["parameters"]) > 0 for row in rows)


def test_odd_names_and_values(sweep, tmp_path: Path) -> None:
    done = sweep("trainer.deterministic=true,false", 'experiment_name="a, b"', "trainer.epochs=1", "outputs='o ü'",
                 "hydra.sweeper.n_trials=1")  # fmt: skip
    assert done.status == 0, done.err
    assert len(leaderboard(tmp_path / "o ü/sweeps/s")) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.lrr=1,2"], "Unknown configuration key 'trainer.lrr'. Nearest: trainer.lr"),
        (["trainer.epochs=0,1"], "trainer.epochs=0: must be at least 1. (at trainer.epochs=0)"),
        (["seed=1,x"], "seed=x: must be an integer"),
        (["model=cnn,nope"], "model=nope: no such choice"),
        (["trainer.monitor=val/loss,val/accuracy"], "trainer.monitor cannot be swept"),
        (["outputs=a,b"], "outputs cannot be swept"),
        ([], "Nothing is swept"),
        ([*SWEPT, "hydra.sweeper.study_name=a b"], "study_name=a b: give a name of letters"),
        ([*SWEPT, "hydra.sweeper.study_name=a..b"], "study_name=a..b: give a name of letters"),
        ([*SWEPT, "hydra.sweeper.study_name=model"], "is no group's"),
        ([*SWEPT, "hydra.sweeper.study_name=null"], "The sweep has no name"),
        ([*SWEPT, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be at least 1"),
        ([*SWEPT, "hydra.sweeper.workers=abc"], "hydra.sweeper.workers=abc: must be an integer."),
        ([*SWEPT, "hydra.sweeper.dry_run=perhaps"], "hydra.sweeper.dry_run=perhaps: must be true or false."),
        ([*SWEPT, "hydra.sweeper.workers=-1"], "hydra.sweeper.workers=-1: must be at least 0"),
        ([*SWEPT, "hydra.sweeper.objective=accuracy"], "no such metric"),
        ([*SWEPT, "hydra.sweeper.objective=parameters", "hydra/sweeper/pruner=median"], "which must be the only"),
        (["trainer.epochs=1,9", "hydra/sweeper/pruner=hyperband"], "give hydra.sweeper.pruner.max_resource=N"),
        ([*SWEPT, "hydra/sweeper/sampler=grid"], "a grid needs choice(...)"),
        ([*SWEPT, "hydra/sweeper/sampler=motpe"], "sampler cannot be made: The 'motpe' sampler was removed"),
        ([*SWEPT, "hydra/sweeper/sampler=tpee"], "hydra/sweeper/sampler=tpee: no such choice"),
        ([*SWEPT, "hydra.sweeper.sampler.sead=1"], "the chosen hydra/sweeper/sampler has no such key"),
        ([*SWEPT, "+hydra.sweeper.sampler.sead=1"], "hydra.sweeper.sampler cannot be made"),
        ([*SWEPT, "hydra.sweeper.pruner._target_=os.system"], "hydra.sweeper.pruner cannot be made"),
        ([*SWEPT, "hydra/sweeper/pruner=null"], "hydra/sweeper/pruner=null: give the name of a choice"),
        ([*SWEPT, "hydra.sweeper.storage=sqlite:///x"], "postgresql://USER@HOST/DATABASE"),
        ([*SWEPT, "--cfg", "job"], "Leave out --multirun"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_is_written(sweep, tmp_path: Path, overrides, message: str) -> None:
    done = sweep(*overrides)
    assert done.status == 2
    assert done.err.startswith("error: ") and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_writes_nothing(sweep, tmp_path: Path) -> None:
    done = sweep(*SWEPT, "hydra.sweeper.dry_run=true", "hydra.sweeper.n_trials=7")
    assert done.status == 0
    for text in ("objective   maximize val/accuracy", "trainer.lr: float(", "7 trials, at most 14 epochs", "point 4 "):
        assert text in done.err
    assert files(tmp_path) == []


def test_another_space_is_refused_by_name(sweep) -> None:
    assert sweep(*SWEPT, "hydra.sweeper.n_trials=1", "trainer.epochs=1").status == 0
    done = sweep("trainer.lr=interval(0.001,0.01)")
    assert done.status == 2 and "is of another space (trainer.lr: float(" in done.err
    done = sweep(*SWEPT, "trainer.epochs=1", "trainer.weight_decay=0.5")
    assert done.status == 2 and "is of another configuration (trainer.weight_decay: " in done.err
    done = sweep(*SWEPT, "trainer.epochs=1", "trainer.monitor=val/loss")
    assert done.status == 2 and "is of another objective (val/accuracy: maximize then" in done.err


def test_a_place_that_cannot_be_written_to(sweep, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    done = sweep(*SWEPT)
    assert done.status == 2 and "cannot be made" in done.err and "Traceback" not in done.err
