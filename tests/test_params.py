"""params.yaml, through which DVC sees the configuration."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def test_the_committed_file_is_what_the_configuration_composes(command, tmp_path: Path) -> None:
    done = command("params", "experiment=pipeline")
    assert done.status == 0, done.err
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_what_belongs_to_the_machine_stays_out(command, tmp_path: Path) -> None:
    machine = ["trainer.device=cpu", "hardware.num_threads=1", "tracking=offline", "data.home=elsewhere"]
    machine += ["data.licence=MIT", "data.gsd=0.3", "data.tile_size=256"]
    assert command("params", "experiment=pipeline", *machine).status == 0
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()
    assert command("params", "experiment=pipeline", "model.width=8").status == 0
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["model"]["width"] == 8


def test_the_pipeline_tracks_sections_that_exist() -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for key in stage.get("params", []):
            node = tree
            for part in key.split("."):
                node = node[part]


def test_the_lock_is_of_this_configuration() -> None:
    """Else `dvc repro` in a fresh clone leaves a changed dvc.lock behind."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    status = [sys.executable, "-m", "dvc", "status", "--json", "params"]
    done = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}, "run `dvc repro` and commit dvc.lock"
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, stage in yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"].items():
        for key, value in stage.get("params", {}).get("params.yaml", {}).items():
            assert value == functools.reduce(dict.__getitem__, key.split("."), params), (name, key)
