"""metrics.jsonl, the record of a run: one JSON object per line and epoch, flushed as it is written."""

import json
import os
from pathlib import Path
from typing import Any

from landuse.errors import UserError
from landuse.files import read_text, replacing

LARGEST = 50_000_000  # bytes; one line an epoch
# What every record has, and the report and the summary count on.
NUMBERS = ("train/loss", "val/loss", "val/accuracy", "lr", "images_per_second", "seconds")


class MetricsFile:
    """Appends the epochs' records."""

    def __init__(self, path: Path, first_epoch: int = 0) -> None:
        """
        Args:
            first_epoch: the epoch at which a resumed run goes on; lines from there on are dropped, as that epoch's
                checkpoint was never written.
        """
        self._path = path
        earlier = read(path) if first_epoch > 0 and path.exists() else []
        kept = [record for record in earlier if record["epoch"] < first_epoch]
        with replacing(path) as temporary:
            temporary.write_text("".join(map(_line, kept)), encoding="utf-8", newline="\n")

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        """Nothing: only epochs are recorded."""

    def epoch(self, record: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())  # before the checkpoint that follows: a power cut must not leave that one alone

    def records(self) -> list[dict[str, Any]]:
        """All epochs so far, those before a resume included."""
        return read(self._path)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line that a crash cut short is left out.

    Raises:
        UserError: a line is no record.
    """
    try:
        lines = read_text(path, LARGEST).split("\n")[:-1]
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, or restore it from a copy.") from error
    return [_record(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not _is_whole(record):
        raise UserError(f"{where} is no record of an epoch: remove the line, or restore the file from a copy.")
    return record


def _is_whole(record: dict[str, Any]) -> bool:
    numbers = (record.get(key) for key in NUMBERS)
    return isinstance(record.get("epoch"), int) and all(isinstance(number, int | float) for number in numbers)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"
