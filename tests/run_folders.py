"""What the tests of the commands share."""

import json
import subprocess
import sys
import time
from pathlib import Path

RUN_FILES = [
    "checkpoints/best.pt", "checkpoints/last.pt", "checkpoints/previous.pt", "config.yaml", "figures/curves.csv",
    "figures/curves.png", "metrics.jsonl", "model/README.md", "model/model.json", "model/model.safetensors",
    "provenance.json", "report.html", "summary.json", "train.log",
]  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def training(arguments: list[str], where: Path, run: Path, command: str = "train") -> "subprocess.Popen[str]":
    """A process that trains into the folder ``run`` and has finished two epochs."""
    line = [sys.executable, "-m", f"landuse.{command}", *arguments]
    process = subprocess.Popen(line, cwd=where, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text().splitlines()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process
