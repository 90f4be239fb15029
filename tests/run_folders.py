"""What the tests of the commands share."""

import json
from pathlib import Path

RUN_FILES = [
    "checkpoints/best.pt", "checkpoints/last.pt", "config.yaml", "figures/curves.csv", "figures/curves.png",
    "metrics.jsonl",
    "model/model.json", "model/model.safetensors", "provenance.json", "report.html", "summary.json", "train.log",
]  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def load(path: Path) -> dict:
    return json.loads(path.read_text())
