"""Whether a run is complete, agrees with itself, and is fit to be cited."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isclose
from pathlib import Path
from typing import Any

from landuse.errors import UserError, printable
from landuse.evaluation.metrics import wilson_interval
from landuse.evaluation.predictions import read_csv
from landuse.evaluation.report.files import Evaluation, RunFiles, read_run
from landuse.files import read_mapping, read_text, require_shallow

LEDGER = "evaluations.jsonl"
LARGEST = 10_000_000  # bytes of the ledger and of model.json
LONGEST_DETAIL = 300  # characters
FILES = ("config.yaml", "metrics.jsonl", "summary.json", "provenance.json", "train.log", "model/model.json",
         "model/model.safetensors", "evaluation.json", "predictions.csv")  # fmt: skip
NEEDED = frozenset(FILES[:4])  # without which nothing else can be told
# What makes another measurement of the same model on the same images.
EXPORTED = "export "  # before a variant's name, where an evaluation has its precision
SETTINGS = ("model_fingerprint", "test_time_augmentation", "image_size")
ONLY_WHERE = ("trainer.device", "trainer.profile", "hardware.")  # keys that may change within a run
# With these a run is a trial of something, and no result.
PARTIAL = ("trainer.overfit_batches", "trainer.limit_train_batches", "trainer.limit_val_batches", "data.max_images")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; None: nothing to judge, but to be stated."""

    what: str
    is_right: bool | None
    detail: str

    def __str__(self) -> str:
        judged = {True: "ok ", False: "NOT", None: "-- "}[self.is_right]
        return f"{judged}  {self.what:<12}  {printable(' '.join(self.detail.split()), LONGEST_DETAIL)}"


def missing_files(folder: Path) -> list[str]:
    """Those of a finished, evaluated run that are not there."""
    return [name for name in FILES if not (folder / name).is_file()]


def check_run(folder: Path, computed: Mapping[str, str], seeds: Mapping[str, float]) -> list[Finding]:
    """Look at everything; nothing is repaired.

    Args:
        computed: ``config_hash`` and ``model_fingerprint`` of what lies in the folder now.
        seeds: test accuracies (0..1) by seed, of runs beside this one that differ from it in their seed alone, this one
            among them; empty where there are none.

    Raises:
        UserError: a file that is there cannot be read.
    """
    missing = missing_files(folder)
    found = [Finding("files", not missing, f"missing: {', '.join(missing)}" if missing else f"all {len(FILES)}")]
    if NEEDED & set(missing):
        return found
    run = read_run(folder)
    found += [*_training(run), _code(run), *_fingerprints(run, computed)]
    if run.evaluation is not None and "predictions.csv" not in missing:
        found += [*_test(run, run.evaluation), _seeds(run, seeds)]
    return found


def _training(run: RunFiles) -> Iterator[Finding]:
    summary = run.summary
    yield Finding("status", summary["status"] == "completed", str(summary["status"]))
    best, stale = _best_epoch(run.history, str(_key(run.config, "trainer.monitor")))
    wanted, patience = _key(run.config, "trainer.epochs"), _key(run.config, "trainer.early_stopping")
    is_stopped = isinstance(patience, int) and stale >= patience
    is_whole = [record["epoch"] for record in run.history] == list(range(len(run.history)))
    stopped = ", stopped early" if is_stopped and len(run.history) != wanted else ""
    yield Finding(
        "epochs", is_whole and (len(run.history) == wanted or is_stopped), f"{len(run.history)} of {wanted}{stopped}"
    )
    agrees = best is not None and best == summary["best_epoch"]
    agrees = agrees and all(run.history[best or 0][key] == summary[key] for key in ("val/accuracy", "val/loss"))
    yield Finding("best epoch", agrees, "as metrics.jsonl says" if agrees else "metrics.jsonl says otherwise")
    partial = [key for key in PARTIAL if _key(run.config, key) is not None]
    yield Finding("whole data", not partial, f"limited by {', '.join(partial)}" if partial else "nothing is limited")


def _best_epoch(history: Sequence[Mapping[str, float]], monitor: str) -> tuple[int | None, int]:
    """Index of the best record, the first of equals, and the number of epochs after it."""
    values = [record.get(monitor) for record in history]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values) or not numbers:
        return None, 0
    best = values.index(min(numbers) if monitor.endswith("loss") else max(numbers))
    return best, len(values) - 1 - best


def _code(run: RunFiles) -> Finding:
    """Of all parts of a run that was made in several."""
    earlier = run.provenance.get("resumed_from")
    parts = [
        run.provenance,
        *(part for part in (earlier if isinstance(earlier, list) else []) if isinstance(part, dict)),
    ]
    commits = list(dict.fromkeys(str(part.get("git_commit"))[:12] for part in parts))
    shown = ", ".join(commits)
    if not all(isinstance(part.get("git_commit"), str) for part in parts):
        return Finding("code", False, "no commit is known")
    if any(part.get("git_dirty") is not False for part in parts):
        return Finding("code", False, f"{shown}, with changes that were not committed")
    changed = [part.get("changed") for part in parts[1:]]  # unknown, of another run's checkpoint, is no better
    if not all(isinstance(keys, dict) and all(key.startswith(ONLY_WHERE) for key in keys) for keys in changed):
        return Finding("code", False, f"{shown}, continued under another configuration")
    return Finding("code", len(commits) == 1, shown)


def _fingerprints(run: RunFiles, computed: Mapping[str, str]) -> Iterator[Finding]:
    """What should be the same in several files."""
    record, provenance = run.evaluation, run.provenance
    described = read_mapping(run.folder / "model" / "model.json", LARGEST).get("extra")
    for key in ("data_fingerprint", "split_fingerprint"):
        values = {"provenance": provenance.get(key), "summary": run.summary.get(key)}
        values["model"] = described.get(key) if isinstance(described, dict) else None
        if record is not None:
            values["evaluation"] = dict(record).get(key)
        yield _same(key.removesuffix("_fingerprint"), values)
    yield _same("config", {"provenance": provenance.get("config_hash"), "config.yaml": computed.get("config_hash")})
    if record is not None:
        weights = {"evaluation": record["model_fingerprint"], "weights": computed.get("model_fingerprint")}
        yield _same("model", weights)


def _same(what: str, values: Mapping[str, Any]) -> Finding:
    if len({str(value) for value in values.values()}) == 1 and None not in values.values():
        return Finding(what, True, f"{str(next(iter(values.values())))[:12]} in {', '.join(values)}")
    return Finding(what, False, "differs: " + ", ".join(f"{key} {str(value)[:12]}" for key, value in values.items()))


def _test(run: RunFiles, record: Evaluation) -> Iterator[Finding]:
    yield Finding("split", record["split"] == "test", record["split"])
    try:
        predictions = read_csv(run.folder / "predictions.csv")
    except (OSError, ValueError) as error:
        raise UserError(f"{error}: evaluate the run again.") from error
    num_images, num_right = len(predictions.paths), int((predictions.predicted == predictions.labels).sum())
    accuracy, agrees = num_right / max(1, num_images), False
    if num_images:
        interval = zip(wilson_interval(num_right, num_images), record["accuracy_ci95"], strict=True)
        agrees = isclose(accuracy, record["accuracy"]) and num_images == record["num_images"]
        agrees = agrees and all(isclose(ours, theirs, abs_tol=1e-9) for ours, theirs in interval)
    low, high = (100 * bound for bound in record["accuracy_ci95"])
    stated = f"{100 * record['accuracy']:.2f} % ({low:.2f} to {high:.2f}) of {record['num_images']:,} images"
    note = f"as predictions.csv says: {stated}" if agrees else f"predictions.csv gives {100 * accuracy:.2f} %: {stated}"
    yield Finding("accuracy", agrees, note)
    openings = _openings(run.folder, record["split_fingerprint"])
    number = _num_choices(openings)
    detail = f"{len(openings)} evaluation(s) of {number} model(s) or setting(s)" if openings else f"no {LEDGER}"
    yield Finding("test opened", number == 1, detail)


def _seeds(run: RunFiles, seeds: Mapping[str, float]) -> Finding:
    from landuse.evaluation.comparing.statistics import mean_interval

    if len(seeds) < 2:
        return Finding("seeds", None, f"{run.provenance.get('seed')} alone, so say so; more: --multirun seed=1,2,3")
    mean, low, high = (100 * value for value in mean_interval(list(seeds.values())))
    return Finding("seeds", None, f"{', '.join(seeds)}: mean {mean:.2f} % ({low:.2f} to {high:.2f})")


def open_test(folder: Path, record: Mapping[str, Any]) -> None:
    """Note an evaluation, before its result is known to anybody: a choice among several is one by the test split."""
    entry = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    entry |= {key: record[key] for key in ("split", "split_fingerprint", "precision", *SETTINGS)}
    path = folder / LEDGER
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()  # in a stranger's folder a link may lead anywhere, and a pipe would be waited for
    with path.open("ab+") as file:
        file.seek(max(0, file.seek(0, 2) - 1))
        is_cut_short = file.read(1) not in (b"", b"\n")  # by a full disk
        file.write(b"\n" * is_cut_short + json.dumps(entry).encode() + b"\n")


def _num_choices(openings: Sequence[Mapping[str, Any]]) -> int:
    """How many models and settings the test split could have chosen among; 1: it has chosen nothing.

    An export compares variants of one model, whose number was settled before; several graphs of a variant are several.
    """
    settings, graphs = set(), dict[str, set[Any]]()
    for opening in openings:
        precision = str(opening.get("precision"))
        if precision.startswith(EXPORTED):
            graphs.setdefault(precision, set()).add(opening.get("model_fingerprint"))
        else:
            settings.add(json.dumps([opening.get(key) for key in SETTINGS]))
    return max(len(settings), min(1, len(openings))) + sum(len(fingerprints) - 1 for fingerprints in graphs.values())


def _openings(folder: Path, split_fingerprint: str | None) -> list[dict[str, Any]]:
    """Every time that this test split was looked at."""
    found = []
    try:
        lines = read_text(folder / LEDGER, LARGEST).splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            entry = json.loads(line)
            require_shallow(entry)
        except (ValueError, RecursionError):  # cut short by a full disk, so that nobody has seen a result
            continue
        if isinstance(entry, dict) and entry.get("split") == "test":
            found += [entry] if entry.get("split_fingerprint") == split_fingerprint else []
    return found


def _key(tree: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
