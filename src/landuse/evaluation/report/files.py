"""A run folder, read into memory and checked, so that whoever shows it need not doubt it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from landuse.errors import UserError
from landuse.evaluation.metrics import Summary
from landuse.evaluation.robustness import Robustness
from landuse.files import MAX_DEPTH, open_regular, parse_yaml, read_text

NUMBER = (int, float)
OPTIONAL_NUMBER = (int, float, type(None))
OPTIONAL_TEXT = (str, type(None))
Kinds = type | tuple[type, ...]

HISTORY_KEYS: dict[str, Kinds] = {
    "epoch": int, "train/loss": NUMBER, "val/loss": NUMBER, "val/accuracy": NUMBER, "lr": NUMBER,
    "images_per_second": NUMBER, "seconds": NUMBER,
}  # fmt: skip
# A run that ended before its first epoch did has no best one, hence the nulls.
SUMMARY_KEYS: dict[str, Kinds] = {
    "best_epoch": (int, type(None)), "val/accuracy": OPTIONAL_NUMBER, "val/loss": OPTIONAL_NUMBER, "parameters": int,
    "train_seconds": NUMBER, "images_per_second": OPTIONAL_NUMBER, "status": str,
}  # fmt: skip
EVALUATION_KEYS: dict[str, Kinds] = {
    "num_images": int, "accuracy": NUMBER, "accuracy_ci95": list, "macro_f1": NUMBER, "loss": NUMBER, "ece": NUMBER,
    "reliability": list, "per_class": dict, "confusion_matrix": list, "classes": list, "split": str,
    "test_time_augmentation": bool, "data_fingerprint": OPTIONAL_TEXT, "split_fingerprint": OPTIONAL_TEXT,
    "model_fingerprint": OPTIONAL_TEXT, "device": str, "precision": str, "seconds": NUMBER,
}  # fmt: skip
ROBUSTNESS_KEYS: dict[str, Kinds] = {
    "num_images": int, "clean": NUMBER, "severities": list, "accuracy": dict, "mean": list, "mean_accuracy": NUMBER,
    "split": str, "test_time_augmentation": bool, "model_fingerprint": OPTIONAL_TEXT,
}  # fmt: skip
CLASS_KEYS: dict[str, Kinds] = {"precision": NUMBER, "recall": NUMBER, "f1": NUMBER, "support": int}
BIN_KEYS: dict[str, Kinds] = {"lower": NUMBER, "upper": NUMBER, "count": int, "accuracy": OPTIONAL_NUMBER}
EVALUATE = "evaluate again: python -m landuse.evaluate run=<folder>"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 1e100
LARGEST_FILE = 50_000_000  # bytes; the evaluation of 2000 classes has that many
MOST_FIGURES = 100
PNG_HEADER_BYTES = 33  # signature and header chunk, which holds width and height


class ReportError(UserError, ValueError):
    """A run folder cannot be shown; the message says why and what to do."""


class Evaluation(Summary):
    """Content of `evaluation.json`: the scores, and what was evaluated how."""

    split: str
    test_time_augmentation: bool
    data_fingerprint: str | None
    split_fingerprint: str | None
    model_fingerprint: str | None
    device: str
    precision: str
    seconds: float


class MeasuredRobustness(Robustness):
    """Content of `robustness.json`: the accuracies, and what was measured how."""

    split: str
    test_time_augmentation: bool
    model_fingerprint: str | None


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds.

    Attributes:
        folder: the run folder, as given.
        config: `config.yaml` parsed, and `config_text` as it stands in the file.
        history: lines of `metrics.jsonl`, one an epoch, counted from 0; empty when no epoch was finished.
        summary: `summary.json`; its `best_epoch` counts from 0 as well.
        provenance: `provenance.json`.
        evaluation: `evaluation.json`, or None where the run has not been evaluated.
        robustness: `robustness.json`, or None where that has not been measured of the weights that were evaluated.
        figures: PNG files of `figures/` by their name without extension, in the order of the names.
    """

    folder: Path
    config: dict[str, Any]
    config_text: str
    history: list[dict[str, float]]
    summary: dict[str, Any]
    provenance: dict[str, Any]
    evaluation: Evaluation | None
    robustness: MeasuredRobustness | None
    figures: dict[str, bytes]

    @property
    def shown_folder(self) -> str:
        """The run folder as one would type it: relative to the working folder where it lies inside."""
        try:
            relative = os.path.relpath(self.folder)
        except ValueError:  # Windows, another drive
            relative = os.pardir
        return str(self.folder.absolute()) if relative.startswith(os.pardir) else Path(relative).as_posix()


def read_run(folder: Path) -> RunFiles:
    """Read and check the files of a run.

    Raises:
        ReportError: when the folder or a required file is missing, or a file is not what it should be.
    """
    if not folder.is_dir():
        raise ReportError(
            f"there is no run folder {folder}; pass one that `python -m landuse.train` made: run=<folder>"
        )
    config_text = _read_text(folder / "config.yaml")
    evaluation = _read_evaluation(folder)
    return RunFiles(
        folder=folder,
        config=_parse_config(config_text, folder / "config.yaml"),
        config_text=config_text,
        history=_read_history(folder / "metrics.jsonl"),
        summary=_read_json(folder / "summary.json", SUMMARY_KEYS),
        provenance=_read_json(folder / "provenance.json", {}),
        evaluation=evaluation,
        robustness=_read_robustness(folder, evaluation),
        figures={path.stem: _read_png(path) for path in sorted((folder / "figures").glob("*.png"))[:MOST_FIGURES]},
    )


def _read_text(path: Path) -> str:
    if not path.exists():
        raise ReportError(
            f"{path} is missing: {path.parent} is not a training run, or it ended before the file was written;"
            " pass run=<folder> of another run, or train again"
        )
    _require_file(path)
    try:
        return read_text(path, LARGEST_FILE)
    except (ValueError, OSError) as error:
        raise ReportError(f"{path} is damaged ({error}); train or evaluate again to write it anew") from error


def _require_file(path: Path) -> None:
    if not path.is_file():  # a folder, or a pipe, which would be waited for
        raise ReportError(f"{path} is no file; remove it, and restore what the run wrote or evaluate again")


def _parse_config(text: str, path: Path) -> dict[str, Any]:
    try:
        config = parse_yaml(text)
    except ValueError as error:
        raise ReportError(f"{path} is not valid YAML ({error}); restore what the run wrote") from error
    if not isinstance(config, dict):
        raise ReportError(f"{path} holds no configuration (no mapping of keys to values); restore what the run wrote")
    return config


def _read_history(path: Path) -> list[dict[str, float]]:
    # A last line without its end was cut short by a crash; the epoch counts as not finished.
    lines = [line for line in _read_text(path).splitlines(keepends=True) if line.endswith("\n")]
    return [_parse_json(line, HISTORY_KEYS, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _read_json(path: Path, keys: Mapping[str, Kinds]) -> dict[str, Any]:
    return _parse_json(_read_text(path), keys, str(path))


def _read_evaluation(folder: Path) -> Evaluation | None:
    path = folder / "evaluation.json"
    if not path.exists():
        return None
    record = _read_json(path, EVALUATION_KEYS)
    classes, matrix, interval = record["classes"], record["confusion_matrix"], record["accuracy_ci95"]
    if len(matrix) != len(classes) or not all(_is_row(row, len(classes)) for row in matrix):
        raise ReportError(f"{path}: confusion_matrix is no table of counts for {len(classes)} classes; {EVALUATE}")
    if not _is_list_of(interval, NUMBER, 2):
        raise ReportError(f"{path}: accuracy_ci95 must be two numbers, got {interval!r}; {EVALUATE}")
    if not _is_list_of(classes, str, len(record["per_class"])) or set(record["per_class"]) != set(classes):
        raise ReportError(f"{path}: per_class and classes name different classes; {EVALUATE}")
    for entry in record["reliability"]:
        _check(entry, BIN_KEYS, f"{path}, reliability")
    for name, scores in record["per_class"].items():
        _check(scores, CLASS_KEYS, f"{path}, per_class, {name}")
    return cast(Evaluation, record)


def _read_robustness(folder: Path, evaluation: Evaluation | None) -> MeasuredRobustness | None:
    path = folder / "robustness.json"
    if not path.exists():
        return None
    record = _read_json(path, ROBUSTNESS_KEYS)
    length = len(record["severities"])
    rows = [record["severities"], record["mean"], *record["accuracy"].values()]
    if not all(_is_list_of(row, NUMBER, length) for row in rows):
        raise ReportError(f"{path} is no table of accuracies by severity; {EVALUATE} robustness=true")
    is_of_evaluated = evaluation is not None and record["model_fingerprint"] == evaluation["model_fingerprint"]
    return cast(MeasuredRobustness, record) if is_of_evaluated else None


def _parse_json(text: str, keys: Mapping[str, Kinds], where: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
        _require_sound(record)
    except (ValueError, RecursionError) as error:  # syntax, integers of thousands of digits, endless nesting
        raise ReportError(f"{where} is not valid JSON ({error}); restore it, or train or evaluate again") from error
    return _check(record, keys, where)


def _require_sound(value: object, key: str = "", depth: int = 0) -> None:
    """Refuse what no run writes and nothing could show.

    Raises:
        ValueError: nesting beyond `MAX_DEPTH`, a number beyond 64 bits, or one from `LARGEST` on that is no loss.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} times")
    if isinstance(value, dict):
        for name, item in value.items():
            _require_sound(item, name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _require_sound(item, key, depth + 1)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{key!r} has more than 64 bits")
    elif isinstance(value, float) and not abs(value) < LARGEST and not key.endswith("loss"):
        raise ValueError(f"{key!r} is not finite, or beyond all measure")


def _check(record: object, keys: Mapping[str, Kinds], where: str) -> dict[str, Any]:
    """Return `record` when it is a mapping that holds `keys` with values of those kinds."""
    if not isinstance(record, dict):
        raise ReportError(f"{where} holds no mapping of keys to values; train or evaluate again to write it anew")
    for key, kinds in keys.items():
        if key not in record:
            raise ReportError(f"{where} lacks the key {key!r}; train or evaluate again to write it anew")
        if not isinstance(record[key], kinds):
            raise ReportError(
                f"{where}: {key!r} has the unexpected value {record[key]!r}; train or evaluate again to write it anew"
            )
    return record


def _is_list_of(value: object, kinds: Kinds, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(isinstance(item, kinds) for item in value)


def _is_row(value: object, length: int) -> bool:
    return isinstance(value, list) and _is_list_of(value, int, length) and min(value, default=0) >= 0


def _read_png(path: Path) -> bytes:
    _require_file(path)
    with open_regular(path) as file:
        content = file.read(LARGEST_FILE)
    if not content.startswith(PNG_SIGNATURE) or len(content) < PNG_HEADER_BYTES:
        raise ReportError(f"{path} is not a PNG file; remove it, or evaluate again to draw it anew")
    return content
