"""Whether a run is complete, agrees with itself, and is fit to be cited."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isclose
from pathlib import Path
from typing import Any

from landuse.errors import UserError
from landuse.evaluation.predictions import read_csv
from landuse.evaluation.report.files import RunFiles, read_run
from landuse.files import read_text

LEDGER = "evaluations.jsonl"
LARGEST_LEDGER = 10_000_000  # bytes
FILES = ("config.yaml", "metrics.jsonl", "summary.json", "provenance.json", "train.log", "model/model.json",
         "model/model.safetensors", "evaluation.json", "predictions.csv")  # fmt: skip
SETTINGS = ("model_fingerprint", "split_fingerprint", "test_time_augmentation", "precision", "image_size")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_right: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok' if self.is_right else 'NOT'}   {self.what:<12}  {self.detail}"


def check_run(folder: Path, computed: Mapping[str, str], seeds: Mapping[str, list[Any]]) -> list[Finding]:
    """Look at everything; nothing is repaired.

    Args:
        computed: ``config_hash`` and ``model_fingerprint`` of what lies in the folder now.
        seeds: ``seeds`` of runs of this very configuration that were evaluated on the same test split, this one among
            them, and their test accuracies in ``accuracies``.

    Raises:
        UserError: a file that is there cannot be read.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    found = [Finding("files", not missing, f"missing: {', '.join(missing)}" if missing else f"all {len(FILES)}")]
    if {"config.yaml", "metrics.jsonl", "summary.json", "provenance.json"} & set(missing):
        return found  # the others cannot be told without them
    run = read_run(folder)
    found += [*_training(run), *_fingerprints(run, computed)]
    if run.evaluation is not None and "predictions.csv" not in missing:
        found += [*_test(run, computed), *_statement(run, seeds)]
    return found


def _training(run: RunFiles) -> Iterator[Finding]:
    summary, trainer = run.summary, run.config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    yield Finding("status", summary["status"] == "completed", str(summary["status"]))
    epochs = [int(record["epoch"]) for record in run.history]
    wanted = trainer.get("epochs")
    stopped = trainer.get("early_stopping") is not None and len(epochs) < (wanted or 0)
    is_whole = epochs == list(range(len(epochs))) and (len(epochs) == wanted or stopped)
    yield Finding("epochs", is_whole, f"{len(epochs)} of {wanted}{', stopped early' if stopped else ''}")
    best = summary["best_epoch"]
    agrees = best is not None and any(
        record["epoch"] == best and record["val/accuracy"] == summary["val/accuracy"] for record in run.history
    )
    yield Finding("best epoch", agrees, "as metrics.jsonl says" if agrees else "metrics.jsonl says otherwise")
    monitor = str(trainer.get("monitor"))
    yield Finding("selection", monitor.startswith("val/"), f"by {monitor}")
    commit, dirty = run.provenance.get("git_commit"), run.provenance.get("git_dirty")
    detail = "no commit is known" if not commit else f"{commit[:12]}{', with changes' if dirty else ''}"
    yield Finding("code", bool(commit) and dirty is False, detail)


def _fingerprints(run: RunFiles, computed: Mapping[str, str]) -> Iterator[Finding]:
    """What should be the same in several files."""
    record, provenance = run.evaluation, run.provenance
    described = _extra(run.folder)
    for key in ("data_fingerprint", "split_fingerprint"):
        values = {"provenance": provenance.get(key), "summary": run.summary.get(key), "model": described.get(key)}
        if record is not None:
            values["evaluation"] = dict(record).get(key)
        yield _same(key.replace("_fingerprint", ""), values)
    yield _same("config", {"provenance": provenance.get("config_hash"), "config.yaml": computed.get("config_hash")})
    if record is not None:
        weights = {"evaluation": record["model_fingerprint"], "weights": computed.get("model_fingerprint")}
        yield _same("model", weights)


def _extra(folder: Path) -> dict[str, Any]:
    try:
        extra = json.loads(read_text(folder / "model" / "model.json", LARGEST_LEDGER))["extra"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return extra if isinstance(extra, dict) else {}


def _same(what: str, values: Mapping[str, Any]) -> Finding:
    if len({str(value) for value in values.values()}) == 1 and None not in values.values():
        return Finding(what, True, f"{str(next(iter(values.values())))[:12]} in {', '.join(values)}")
    return Finding(what, False, "differs: " + ", ".join(f"{key} {str(value)[:12]}" for key, value in values.items()))


def _test(run: RunFiles, computed: Mapping[str, str]) -> Iterator[Finding]:
    record = run.evaluation
    assert record is not None
    yield Finding("split", record["split"] == "test", str(record["split"]))
    try:
        predictions = read_csv(run.folder / "predictions.csv")
    except (OSError, ValueError) as error:
        raise UserError(f"{error}: evaluate the run again.") from error
    accuracy = float((predictions.predicted == predictions.labels).mean())
    agrees = isclose(accuracy, record["accuracy"], abs_tol=1e-9) and len(predictions.paths) == record["num_images"]
    yield Finding("predictions", agrees, f"{accuracy:.4f} from predictions.csv, {record['accuracy']:.4f} stated")
    openings = _openings(run.folder)
    number = len({json.dumps([opening.get(key) for key in SETTINGS]) for opening in openings})
    detail = f"{len(openings)} evaluation(s) of {number} model(s) or setting(s)" if openings else f"no {LEDGER}"
    yield Finding("test opened", number == 1, detail)


def _openings(folder: Path) -> list[dict[str, Any]]:
    """Every time that the test split was looked at."""
    path = folder / LEDGER
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in read_text(path, LARGEST_LEDGER).splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is damaged: restore it from a copy.") from error
    return [line for line in lines if isinstance(line, dict) and line.get("split") == "test"]


def open_test(folder: Path, record: Mapping[str, Any]) -> None:
    """Note an evaluation, before its result is known to anybody: a choice among several is one by the test split."""
    entry = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "split": record["split"]}
    entry |= {key: record[key] for key in SETTINGS}
    path = folder / LEDGER
    if path.is_symlink():  # in a stranger's folder it may lead anywhere
        path.unlink()
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _statement(run: RunFiles, seeds: Mapping[str, list[Any]]) -> Iterator[Finding]:
    record = run.evaluation
    assert record is not None
    low, high = record["accuracy_ci95"]
    wilson = f"{100 * record['accuracy']:.2f} % ({100 * low:.2f} to {100 * high:.2f}), {record['num_images']:,} images"
    yield Finding("interval", 0 <= low <= record["accuracy"] <= high <= 1, wilson)
    known = sorted({str(seed) for seed in seeds.get("seeds", [])})
    yield Finding("seeds", bool(known), _over_seeds(known, seeds.get("accuracies", [])))


def _over_seeds(known: list[str], accuracies: list[float]) -> str:
    from landuse.evaluation.comparing.statistics import mean_interval

    if len(accuracies) < 2 or len(known) < 2:
        return f"{', '.join(known)}: one alone, say so; others: seed=1,2,3 with --multirun"
    mean, low, high = mean_interval(accuracies)
    return f"{', '.join(known)}: mean {100 * mean:.2f} % ({100 * low:.2f} to {100 * high:.2f})"
