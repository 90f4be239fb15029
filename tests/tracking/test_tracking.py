"""metrics.jsonl, console, logs, provenance."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from landuse.config.schema import Config
from landuse.errors import UserError
from landuse.runs import to_tree
from landuse.tracking import logs, metrics_file, provenance
from landuse.tracking.console import Console
from landuse.tracking.metrics_file import MetricsFile

RECORD: dict[str, Any] = {
    "epoch": 0, "train/loss": 1.5, "val/loss": 1.25, "val/accuracy": 0.5, "lr": 1e-3, "images_per_second": 100.0,
    "seconds": 2.0,
}  # fmt: skip


def test_metrics_file_appends_and_reads_back(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.jsonl")
    for epoch in range(3):
        file.epoch(RECORD | {"epoch": epoch})
    assert [record["epoch"] for record in file.records()] == [0, 1, 2]


def test_an_epoch_is_on_the_disk_before_its_checkpoint_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave the checkpoint, which is synchronised, without the line that belongs to it."""
    on_disk: list[str] = []
    path = tmp_path / "m.jsonl"
    file = MetricsFile(path)
    monkeypatch.setattr(os, "fsync", lambda number: on_disk.append(path.read_text()))
    file.epoch(RECORD)
    assert on_disk == [json.dumps(RECORD) + "\n"]


def test_metrics_file_drops_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    first = MetricsFile(path)
    for epoch in range(3):
        first.epoch(RECORD | {"epoch": epoch})
    with path.open("a") as file:
        file.write('{"epoch": 3, "train/lo')  # cut short by a crash
    resumed = MetricsFile(path, first_epoch=2)
    resumed.epoch(RECORD | {"epoch": 2, "val/accuracy": 0.75})
    assert [(record["epoch"], record["val/accuracy"]) for record in metrics_file.read(path)] == [
        (0, 0.5),
        (1, 0.5),
        (2, 0.75),
    ]


@pytest.mark.parametrize("line", ["garbage", '"epoch"', "{}", "\0\0\0", ""])
def test_metrics_file_names_a_line_that_is_no_record(tmp_path: Path, line: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f"{json.dumps(RECORD)}\n{line}\n")
    with pytest.raises(UserError, match=r"m\.jsonl, line 2 is no record of an epoch: remove the line"):
        metrics_file.read(path)
    assert MetricsFile(path, first_epoch=0).records() == []  # begun anew, it need not be readable


def test_console_prints_plain_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Console(num_epochs=12) as console:
        console.step(0, 1, 5, 8)
        console.epoch(RECORD)
    assert "epoch  1/12: loss 1.500, val loss 1.250, val accuracy 0.5000, 100 images/s, 2 s" in caplog.text


def test_console_draws_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Console(num_epochs=2) as console:
        console.step(0, 1, 5, 8)
        console.step(0, 2, 5, 16)
        console.step(1, 5, 5, 40)
    assert "time left" in capsys.readouterr().err


def test_second_job_closes_the_first_ones_log(tmp_path: Path) -> None:
    log = logging.getLogger("landuse.test")
    for name in ("a", "b"):
        logs.to_stderr()
        logs.to_file(tmp_path / f"{name}.log")
        log.info("message of %s", name)
    logs.stop()
    assert "message of a" in (tmp_path / "a.log").read_text()
    assert "message of b" not in (tmp_path / "a.log").read_text()


def test_git_state_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, commit, dirty in (
        (("a" * 40), "a" * 40, False),
        ("a" * 40 + "-dirty", "a" * 40, True),
        ("main", None, None),
    ):
        monkeypatch.setenv("LANDUSE_GIT_COMMIT", said)
        assert provenance.git_state(tmp_path) == {"git_commit": commit, "git_dirty": dirty, "git_diff_hash": None}
    checkout = provenance.git_state(Path(__file__).parent)["git_commit"]
    assert checkout is None or checkout != "a" * 40  # where there is a checkout, it says so itself


def test_git_state_inside_and_outside_a_checkout(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) == {"git_commit": None, "git_dirty": None, "git_diff_hash": None}

    def git(*arguments: str) -> None:
        me = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", *me, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "x")
    clean = provenance.git_state(tmp_path)
    assert (clean["git_dirty"], clean["git_diff_hash"]) == (False, None)
    hashes = set()
    for name, text in (("code.py", "a = 2\n"), ("code.py", "a = 3\n"), ("new.py", "b"), ("new.py", "c")):
        (tmp_path / name).write_text(text)
        state = provenance.git_state(tmp_path)
        assert state["git_dirty"] is True and state["git_commit"] == clean["git_commit"]
        assert state == provenance.git_state(tmp_path)
        hashes.add(state["git_diff_hash"])
    assert len(hashes) == 4 and None not in hashes
    (tmp_path / "link").symlink_to("nowhere")
    assert provenance.git_state(tmp_path)["git_diff_hash"] not in hashes


def test_source_hash_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    seen = {provenance.source_hash(tmp_path)}
    for name, text in (("b.py", "1"), ("b.py", "2"), ("a/b.py", "2"), ("notes.txt", "no code")):
        (tmp_path / name).write_text(text)
        seen.add(provenance.source_hash(tmp_path))
    assert len(seen) == 4


def test_config_hash_follows_the_configuration() -> None:
    own = provenance.config_hash(to_tree(Config()))
    assert provenance.config_hash(to_tree(Config(outputs="elsewhere"))) == own
    assert provenance.config_hash(to_tree(Config(seed=1))) != own


def test_records_are_plain_json(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "m.jsonl").epoch(RECORD)
    assert json.loads((tmp_path / "m.jsonl").read_text()) == RECORD
