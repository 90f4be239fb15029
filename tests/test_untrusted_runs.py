"""A stranger's files through the door: one sentence, exit 2, nothing executed, and the run folder as it was."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from .conftest import write_images
from .forgery import Call, Storage, run_code, tensor, torch_zip


@pytest.fixture
def run(command, tiny, tmp_path: Path) -> Path:
    """A run that somebody else made, not marked as finished."""
    assert command("train", *tiny, f"hydra.run.dir={tmp_path}/run").status == 0
    (tmp_path / "run/summary.json").unlink()
    return tmp_path / "run"


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}


def refused(done: Any, *sentences: str) -> None:
    assert done.status == 2, done.err
    assert "Traceback" not in done.err
    assert all(sentence in done.err for sentence in sentences), done.err


ATTACKS: dict[str, Callable[[Path, Path], Any]] = {
    "code": lambda path, marker: torch_zip(path, {"format": 1, "state": run_code(marker)}),
    "old format": lambda path, marker: torch.save(run_code(marker), path, _use_new_zipfile_serialization=False),
    "all memory": lambda path, _: torch_zip(path, {"format": 1, "state": Call(bytearray, 2**40)}),
    "an exabyte": lambda path, _: torch_zip(path, {"w": tensor(Storage("0", 2**58), (2**58,), (1,))}, {"0": b"abcd"}),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("how", ["resume=PATH", "resume=auto", "weights"])
def test_tensors_with_more_than_tensors(command, tiny, run: Path, tmp_path: Path, attack: str, how: str) -> None:
    marker = tmp_path / "executed"
    if how == "resume=auto":
        for path in (run / "checkpoints").iterdir():
            ATTACKS[attack](path, marker)
        arguments = [f"hydra.run.dir={run}", "trainer.resume=auto"]
    else:
        ATTACKS[attack](tmp_path / "evil.pt", marker)
        key = "model.weights" if how == "weights" else "trainer.resume"
        arguments = ["run_name=x", f"{key}={tmp_path}/evil.pt"]
    before = content(run)
    done = command("train", *tiny, *arguments)
    refused(done, "was not opened" if how == "weights" else "is damaged or is no checkpoint")
    assert content(run) == before
    assert not marker.exists() and not (tmp_path / "outputs/train/folder_cnn/x").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: !!python/object/apply:os.system [touch executed]", "cannot be read"),
        ("seed: ${oc.env:HOME}", "it has an inter"),
        ("a: &x [1]\nb: [*x, *x]", "it has aliases"),
        ("model: {kind: cnn, _target_: evil.Net}", "_target_"),
        ("model: {kind: custom, target: evil.Net}", "evil.Net"),
    ],
)
def test_a_configuration_with_more_than_values(
    command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("open('executed', 'w')")
    (run / "config.yaml").write_text(text)
    for name in ("evaluate", "reproduce"):
        done = command(name, f"run={run}")
        assert done.status == 2 and "Traceback" not in done.err, done.err
    assert not (tmp_path / "executed").exists()
    if "custom" not in text:  # evaluate goes by model.json, reproduce by the configuration
        assert problem in done.err


def test_weights_that_are_no_numbers(command, run: Path) -> None:
    path = run / "model/model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights[next(name for name in weights if name.endswith("bias"))].fill_(torch.nan)
    safetensors.torch.save_file(weights, path)
    refused(command("evaluate", f"run={run}"), "sha256", str(run))
    description = json.loads((run / "model/model.json").read_text())
    description["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (run / "model/model.json").write_text(json.dumps(description))
    refused(command("evaluate", f"run={run}"), "has values that are not finite")


def test_another_number_of_classes(command, run: Path, tmp_path: Path) -> None:
    others = write_images(tmp_path / "others", {"barn": (1, 2, 3), "lake": (90, 90, 90)}, per_class=10)
    done = command("evaluate", f"run={run}", f"data.root={others}")
    refused(done, "field, roof, water", "barn, lake")
    description = json.loads((run / "model/model.json").read_text())
    description["classes"].append("a fourth")
    (run / "model/model.json").write_text(json.dumps(description))
    refused(command("evaluate", f"run={run}"), "num_parameters is not")


def test_a_history_that_would_steer_the_page(command, run: Path) -> None:
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    (run / "metrics.jsonl").write_text(json.dumps(record | {"<script>alert(1)</script>": 1}) + "\n")
    (run / "provenance.json").write_text(json.dumps({"command_line": "<script>alert(2)</script>"}))
    done = command("report", f"run={run}")
    page = (run / "report.html").read_text()
    assert done.status in (0, 2) and "Traceback" not in done.err
    assert "<script>alert" not in page


def test_links_do_not_lead_out_of_the_run(command, run: Path, tmp_path: Path) -> None:
    """What a report is written over is the name in the folder, not what a link there names."""
    outside = tmp_path / "precious"
    outside.write_text("mine")
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(outside)
    command("report", f"run={run}")
    assert outside.read_text() == "mine"
