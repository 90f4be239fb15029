"""``trainer.resume=auto`` after a process that ended at the worst moment."""

import shutil
from pathlib import Path

import pytest

from .test_commands import RUN_FILES, files, load


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
