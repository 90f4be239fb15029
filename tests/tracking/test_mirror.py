"""What W&B gets of a run, with its real library: offline, and online from a server on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run, overrides
from tests.run_folders import commands, load

from .wandb_file import OfflineRun
from .wandb_server import Server

ONLINE = "tracking=online"


@pytest.fixture(scope="module")
def made(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without tracking."""
    where = tmp_path_factory.mktemp("sent")
    commands(where, ["train", *overrides(image_folder, where), "run_name=x"])
    return where


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made / "outputs", tmp_path / "outputs", symlinks=True)
    return tmp_path / "outputs/train/folder_cnn/x"


def epochs(server: Server) -> list[int]:
    """Of the only run, as they were logged."""
    (run,) = server.runs
    return [row["epoch"] for row in server.history(run) if "train/loss" in row]


def test_everything_of_a_run_arrives(command: Run, tiny: list[str], server: Server, tmp_path: Path) -> None:
    done = command("train", *tiny, ONLINE, "run_name=x", "tracking.group=g", "tracking.tags=[a,b]")
    assert done.status == 0 and "failed" not in done.err, done.err
    (name,) = server.runs
    assert f"W&B         {server.url}/someone/landuse/runs/{name}" in done.err
    assert epochs(server) == [0, 1]
    folder = tmp_path / "outputs/train/folder_cnn/x"
    recorded = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row, record in zip(server.history(name), recorded, strict=False):
        assert row["_step"] == record["step"] and record.items() <= row.items()
    run = server.runs[name]
    assert (run["groupName"], run["tags"], run["jobType"], run["exit_code"]) == ("g", ["a", "b"], "train", 0)
    config = {key: value["value"] for key, value in run["config"].items() if key != "_wandb"}
    assert config["provenance"] == load(folder / "provenance.json") and config["model"]["name"] == "cnn"
    summary = load(folder / "summary.json")
    assert {key: server.summary(name).get(key) for key in summary} == summary
    assert "figures/curves" in server.summary(name)
    (model,) = [artifact for artifact in server.artifacts if artifact["type"] == "model"]
    assert sorted(model["aliases"]) == ["best", "latest"]
    files = server.files("folder_cnn", 0)
    assert files["model/model.safetensors"] == (folder / "model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_an_evaluation_is_added_to_its_run(command: Run, tiny: list[str], server: Server, tmp_path: Path) -> None:
    assert command("train", *tiny, ONLINE, "run_name=x").status == 0
    assert command("evaluate").status == 0
    (name,) = server.runs
    assert "test/accuracy" not in server.summary(name)  # what is sent is asked for each time
    assert command("evaluate", ONLINE).status == 0
    summary, folder = server.summary(name), tmp_path / "outputs/train/folder_cnn/x"
    assert summary["test/accuracy"] == load(folder / "evaluation.json")["accuracy"]
    assert {"test/predictions", "test/confusion_matrix_table", "figures/mistakes"} <= summary.keys()
    assert epochs(server) == [0, 1] and server.runs[name]["exit_code"] == 0
    assert len([artifact for artifact in server.artifacts if artifact["type"] == "model"]) == 1
    rows = len(server.history(name))
    assert command("track").status == 0  # has nothing to add
    assert len(server.history(name)) == rows


@pytest.mark.slow
def test_a_run_that_goes_on_logs_no_epoch_twice(command: Run, tiny: list[str], server: Server, tmp_path: Path) -> None:
    process = start(tmp_path, *tiny, ONLINE)
    wait_until(lambda: server.runs and len(epochs(server)) >= 2)
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    so_far = epochs(server)
    goes_on = [f"trainer.epochs={len(so_far) + 2}", "trainer.resume=auto", "run_name=x", "model.width=64"]
    done = command("train", *tiny, ONLINE, *goes_on)
    assert done.status == 0 and "resumed from" in done.err, done.err
    (run,) = server.runs.values()
    assert epochs(server) == list(range(len(so_far) + 2)) and run["exit_code"] == 0


@pytest.mark.slow
def test_the_best_of_a_name_keeps_its_alias(command: Run, run: Path, server: Server) -> None:
    summary = load(run / "summary.json")
    for number, accuracy in enumerate((0.8, 0.7, 0.9, 0.9)):  # equal is not better
        copy = run.parent / str(number)
        shutil.copytree(run, copy)
        (copy / "summary.json").write_text(json.dumps(summary | {"val/accuracy": accuracy, "wall_seconds": number}))
        assert command("track", f"run={copy}").status == 0
    aliases = [sorted(a["aliases"]) for a in server.artifacts if a["type"] == "model"]
    assert aliases == [[], [], ["best"], ["latest"]]


@pytest.mark.slow
def test_offline_keeps_one_whole_run(command: Run, tiny: list[str], tmp_path: Path) -> None:
    process = start(tmp_path, *tiny, "tracking=offline")
    folder = tmp_path / "outputs/train/folder_cnn/x"
    wait_until(lambda: list(folder.glob("wandb/offline-run-*/*.wandb")))
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    first = OfflineRun(folder)
    so_far = [row["epoch"] for row in first.history if "epoch" in row]
    num_epochs = len((folder / "metrics.jsonl").read_text().splitlines())
    assert so_far == list(range(num_epochs)) and first.exit_code == 1 and not first.artifacts
    goes_on = ["run_name=x", f"trainer.epochs={num_epochs + 2}", "trainer.resume=auto", "model.width=64"]
    done = command("train", *tiny, "tracking=offline", *goes_on)
    assert done.status == 0 and "W&B" not in done.err, done.err
    assert command("evaluate").status == 0
    run = OfflineRun(folder)
    assert [row["epoch"] for row in run.history if "epoch" in row] == list(range(num_epochs + 2))
    assert (run.run.run_id, run.exit_code) == (first.run.run_id, 0)
    assert [list(artifact.aliases) for artifact in run.artifacts if artifact.type == "model"] == [["latest"]]
    assert run.summary["test/accuracy"] == load(folder / "evaluation.json")["accuracy"]


def test_a_run_is_sent_later(command: Run, run: Path, server: Server) -> None:
    for _ in range(2):
        done = command("track")
        assert done.status == 0 and "sent        " in done.err, done.err
        assert epochs(server) == [0, 1]
    assert command("track", "tracking=off").status == 2


@pytest.mark.slow
def test_what_a_killed_run_had_recorded_arrives(tiny: list[str], server: Server, tmp_path: Path) -> None:
    process = start(tmp_path, *tiny, ONLINE)
    wait_until(lambda: server.runs and len(epochs(server)) >= 2)
    process.kill()
    process.wait()
    (name,) = server.runs
    wait_until(lambda: server.runs[name]["exit_code"] is not None)
    lines = (tmp_path / "outputs/train/folder_cnn/x/metrics.jsonl").read_text().splitlines()
    assert epochs(server) == list(range(len(lines))) and server.runs[name]["exit_code"] == 1


@pytest.mark.slow
def test_the_trials_of_a_sweep_are_a_group(command: Run, tiny: list[str], server: Server) -> None:
    sweep = ["--multirun", "hydra/sweeper=landuse", "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=s"]
    done = command("train", *sweep, *tiny, "trainer.lr=interval(0.001,0.02)", ONLINE)
    assert done.status == 0, done.err
    assert [run["groupName"] for run in server.runs.values()] == ["s", "s"]


def start(where: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A training that does not end by itself, of epochs that take a while."""
    endless = ["run_name=x", "trainer.epochs=100000", "model.width=64", "hardware.num_threads=1"]
    command = [sys.executable, "-m", "landuse.train", *arguments, *endless]
    return subprocess.Popen(command, cwd=where)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def name(command: Run, run: Path, server: Server) -> str:
    """A model in W&B."""
    assert command("track").status == 0
    return "wandb:someone/landuse/folder_cnn:best"


@pytest.mark.slow
def test_a_model_by_its_name(command: Run, tiny: list[str], server: Server, name: str, tmp_path: Path) -> None:
    assert command("evaluate").status == 0
    done = command("evaluate", f"run={name}")
    assert done.status == 0 and "fetching    " in done.err, done.err
    folder = tmp_path / "outputs/wandb/someone/landuse/folder_cnn/v0"
    assert not (folder / "wandb.json").exists()  # it is another run's
    result = load(tmp_path / "outputs/train/folder_cnn/x/evaluation.json")
    assert load(folder / "evaluation.json")["accuracy"] == result["accuracy"]
    sent = command("evaluate", f"run={name}", ONLINE)
    assert sent.status == 0 and "was fetched from there" in sent.err and len(server.runs) == 1
    assert command("track", f"run={name}").status == 2
    again = command("report", f"run={name}")
    assert again.status == 0 and "fetching" not in again.err
    server.status = 500
    offline = command("report", f"run={name}", "tracking.timeout_s=1")
    assert offline.status == 0 and "taken as v0" in offline.err
    for path in ("model/model.safetensors", "checksums.json"):
        (folder / path).write_text("changed")
        changed = command("report", f"run={name}", "tracking.timeout_s=1")
        assert changed.status == 2 and "is not what was fetched: remove" in changed.err


def test_a_model_that_is_gone_is_not_taken_from_what_was_kept(command: Run, server: Server, name: str) -> None:
    assert command("report", f"run={name}").status == 0
    server.artifacts.clear()
    done = command("report", f"run={name}")
    assert done.status == 2 and "cannot be had from W&B" in done.err


@pytest.mark.slow
def test_two_processes_do_not_send_one_run(command: Run, tiny: list[str], server: Server, tmp_path: Path) -> None:
    process = start(tmp_path, *tiny, ONLINE)
    wait_until(lambda: server.runs and len(epochs(server)) >= 1)
    done = command("track", "tracking.timeout_s=8")  # enough for its own process to start
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert done.status == 1 and "another process is sending this run" in done.err, done.err
    logged = epochs(server)
    assert logged == list(range(len(logged)))


def test_what_could_not_be_sent_is_sent_later(command: Run, run: Path, server: Server) -> None:
    assert command("evaluate").status == 0
    predictions = run / "predictions.csv"
    whole = predictions.read_text()
    predictions.write_text("damaged\n")
    done = command("track")
    assert done.status == 1 and "predictions.csv" in done.err, done.err
    predictions.write_text(whole)
    assert command("track").status == 0
    (name,) = server.runs
    assert "test/predictions" in server.summary(name)
    assert any(artifact["type"] == "model" for artifact in server.artifacts)


def test_a_run_begun_anew_is_another(command: Run, tiny: list[str], server: Server, tmp_path: Path) -> None:
    assert command("train", *tiny, ONLINE, "run_name=x").status == 0
    folder = tmp_path / "outputs/train/folder_cnn/x"
    for name in (
        "metrics.jsonl",
        "summary.json",
        "checkpoints/last.pt",
        "checkpoints/previous.pt",
        "checkpoints/best.pt",
    ):
        (folder / name).unlink()
    assert command("train", *tiny, ONLINE, "run_name=x").status == 0
    assert [[row["epoch"] for row in server.history(name) if "train/loss" in row] for name in server.runs] == [
        [0, 1]
    ] * 2


def test_addresses_are_sent_without_passwords(command: Run, tiny: list[str], server: Server, tmp_path: Path) -> None:
    secret = "data.archive.url=https://me:PASSWORD@host/a.zip"
    assert command("train", *tiny, ONLINE, "run_name=x", secret).status == 0
    (run,) = server.runs.values()
    assert "host/a.zip" in repr(run["config"]) and "PASSWORD" not in repr(run)
    assert not any(b"PASSWORD" in blob for blob in server.blobs.values())


def test_an_interrupted_run_stays_one(command: Run, run: Path, server: Server) -> None:
    path = run / "summary.json"
    path.write_text(path.read_text().replace("completed", "interrupted"))
    assert command("track").status == 0
    (sent,) = server.runs.values()
    assert sent["exit_code"] == 1 and not server.artifacts


def test_nothing_outside_a_strangers_folder_is_sent(command: Run, run: Path, server: Server, tmp_path: Path) -> None:
    folder, secret, elsewhere = run, tmp_path / "secret.json", tmp_path / "else"
    secret.write_text(json.dumps({"token": "SECRET", "status": "completed"}))
    elsewhere.mkdir()
    number = "abc"
    (elsewhere / f"offline-run-1-{number}").mkdir()
    (folder / "wandb.json").write_text(json.dumps({"id": number, "job_type": "train"}))
    (folder / "wandb").symlink_to(elsewhere)
    for name in ("provenance.json", "evaluation-x.json", "model/README.md", "figures/mine.png", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(secret)
    os.mkfifo(folder / "figures/pipe.png")
    done = command("track")
    assert done.status == 0, done.err
    assert "SECRET" not in repr(server.runs) and not any(b"SECRET" in blob for blob in server.blobs.values())
    assert [path.name for path in elsewhere.iterdir()] == [f"offline-run-1-{number}"]


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("wandb:landuse/folder_cnn:best", "must be of the form wandb:entity/project/name:alias"),
        ("wandb:someone/../folder_cnn:best", "must be of the form wandb:entity/project/name:alias"),
        ("wandb:someone/landuse/other:best", "cannot be had from W&B"),
        ("wandb:someone/landuse/folder_cnn:v7", "cannot be had from W&B"),
    ],
)
def test_a_name_that_is_none(command: Run, server: Server, address: str, problem: str) -> None:
    done = command("report", f"run={address}")
    assert done.status == 2 and problem in done.err, done.err
