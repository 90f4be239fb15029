"""metrics.jsonl, the record of a run: one JSON object per line and epoch, flushed as it is written."""

import json
from pathlib import Path
from typing import Any

from landuse.files import replacing


class MetricsFile:
    """Appends the epochs' records."""

    def __init__(self, path: Path, first_epoch: int = 0) -> None:
        """
        Args:
            first_epoch: the epoch at which a resumed run goes on; lines from there on are dropped, as that epoch's
                checkpoint was never written.
        """
        self._path = path
        kept = [record for record in read(path) if record["epoch"] < first_epoch] if path.exists() else []
        with replacing(path) as temporary:
            temporary.write_text("".join(map(_line, kept)), encoding="utf-8")

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        """Nothing: only epochs are recorded."""

    def epoch(self, record: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))

    def records(self) -> list[dict[str, Any]]:
        """All epochs so far, those before a resume included."""
        return read(self._path)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line that a crash cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"
