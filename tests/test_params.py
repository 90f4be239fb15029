"""params.yaml, through which DVC sees the configuration."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_the_committed_file_is_what_the_configuration_composes(command, tmp_path: Path) -> None:
    done = command("params", "experiment=pipeline")
    assert done.status == 0, done.err
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_what_belongs_to_the_machine_stays_out(command, tmp_path: Path) -> None:
    machine = ["trainer.device=cpu", "hardware.num_threads=1", "tracking=offline", "data.home=elsewhere"]
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
