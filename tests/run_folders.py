"""What the tests of the commands share."""

import json
import subprocess
import sys
import time
from pathlib import Path

RUN_FILES = [
    "checkpoints/best.pt", "checkpoints/last.pt", "checkpoints/previous.pt", "config.yaml", "figures/curves.csv",
    "figures/curves.png", "metrics.jsonl", "model/README.md", "model/model.json", "model/model.safetensors",
    "model/reference.safetensors", "provenance.json", "report.html", "summary.json", "train.log",
]  # fmt: skip

ONE_BY_ONE = """
import importlib, json, sys
from landuse.cli import run_command
for name, *overrides in json.loads(sys.argv.pop(1)):
    sys.argv = [name, *overrides]
    run_command(name, getattr(importlib.import_module(f"landuse.{name}"), name))
"""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def commands(where: Path, *lines: list[str]) -> None:
    """Run commands, each given by its name and its overrides, in one process; for fixtures that many tests share."""
    subprocess.run([sys.executable, "-c", ONE_BY_ONE, json.dumps(lines)], cwd=where, check=True, capture_output=True)


def training(arguments: list[str], where: Path, run: Path, command: str = "train") -> "subprocess.Popen[str]":
    """A process that trains into the folder ``run`` and has finished two epochs."""
    line = [sys.executable, "-m", f"landuse.{command}", *arguments]
    process = subprocess.Popen(line, cwd=where, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text().splitlines()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process
