"""Sweeps through Hydra's launchers, each with processes of its own: that they work, and what a killed one costs."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from landuse.sweeps.workers import share_of_cores

NO_PRUNING = "hydra.sweeper.pruner.n_startup_trials=100"


def require(launcher: str, extra: str) -> None:
    package = f"hydra_plugins.hydra_{launcher}_launcher"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the extra {extra}: pip install 'landuse[{extra}]'")


def start(where: Path, launcher: str, num_trials: int, arguments: list[str]) -> "subprocess.Popen[str]":
    """A sweep, two trials at once."""
    command = [sys.executable, "-m", "landuse.train", "--multirun", "+sweeps=cnn_tpe", f"hydra/launcher={launcher}"]
    command += ["hydra.sweeper.n_jobs=2", f"hydra.sweeper.n_trials={num_trials}", NO_PRUNING, *arguments]
    environment = os.environ | {"HOME": str(where)}  # into which ray writes
    environment.pop("OMP_NUM_THREADS", None)
    return subprocess.Popen(command, cwd=where, stderr=subprocess.PIPE, text=True, env=environment)


def leaderboard(where: Path) -> list[dict[str, str]]:
    with (where / "outputs/sweeps/cnn_tpe/leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def descendants(process: int) -> list[int]:
    """Its children, their children, and so on."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def check_a_sweep(where: Path, launcher: str, tiny: list[str]) -> None:
    process = start(where, launcher, 3, tiny)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    assert "3 of 3 trials finished (3 complete)" in errors
    assert {row["epochs"] for row in leaderboard(where)} == {"2"}  # reported by the training, from its own process
    assert "LANDUSE_SWEEP" not in errors  # launchers would show the overrides of every job
    assert [path.name for path in (where / "outputs").iterdir() if path.name != "latest"] == ["sweeps"]
    for number in range(3):
        provenance = json.loads((where / f"outputs/sweeps/cnn_tpe/trials/{number}/provenance.json").read_text())
        assert "hydra" not in provenance["command_line"]
        assert provenance["hardware"]["num_threads"] == len(share_of_cores(0, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "joblib"), ("submitit_local", "slurm")])
def test_trials_in_processes_of_a_launcher(tmp_path: Path, tiny: list[str], launcher: str, extra: str) -> None:
    require(launcher.partition("_")[0], extra)
    check_a_sweep(tmp_path, launcher, tiny)


@pytest.mark.cluster
def test_trials_on_a_ray_cluster(tmp_path: Path, tiny: list[str]) -> None:
    require("ray", "ray")
    check_a_sweep(tmp_path, "ray", tiny)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a launcher in /proc")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "extra", "program", "ended"),
    [
        # Joblib ends all of its processes when one is killed, so that both trials are tried again.
        ("joblib", "joblib", "popen_loky", {"complete": 2, "failed": 1, "interrupted": 1}),
        # A job of submitit is on its own: the other one is waited for, and counts.
        ("submitit_local", "slurm", "submitit.core._submit", {"complete": 2, "failed": 1}),
    ],
)
def test_a_killed_process_costs_trials_and_not_the_sweep(
    tmp_path: Path, tiny: list[str], launcher: str, extra: str, program: str, ended: dict[str, int]
) -> None:
    require(launcher.partition("_")[0], extra)
    process = start(tmp_path, launcher, 2, [*tiny, "trainer.epochs=30"])
    records = [tmp_path / f"outputs/sweeps/cnn_tpe/trials/{number}/metrics.jsonl" for number in range(2)]
    deadline = time.monotonic() + 120
    while not all(record.is_file() for record in records):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    workers = [one for one in descendants(process.pid) if program in Path(f"/proc/{one}/cmdline").read_text()]
    os.kill(workers[0], signal.SIGKILL)
    errors = process.communicate(timeout=300)[1]

    assert process.returncode == 0, errors
    assert Counter(row["state"] for row in leaderboard(tmp_path)) == ended, errors
    assert "2 of 2 trials finished" in errors
