"""The page of a comparison, and the same as JSON."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landuse.evaluation.comparing import figures, sections
from landuse.evaluation.comparing.reading import Compared, read_runs, why_unpaired
from landuse.evaluation.comparing.statistics import PairedDifference, holm, paired
from landuse.files import write_json
from landuse.page.markup import tag
from landuse.page.parts import png
from landuse.page.write import page, write_page

TEST = ("accuracy", "accuracy_ci95", "macro_f1", "loss", "ece")  # of evaluation.json


def compare_runs(folders: Sequence[Path], target: Path) -> Path:
    """Write ``<target>/report.html`` and ``comparison.json``; returns the former's path.

    Args:
        folders: run folders; the one with the best test accuracy (else validation accuracy) is what the others are
            held against.

    Raises:
        UserError: fewer than two runs, or files that cannot be read.
    """
    compared = sorted(read_runs(folders), key=_accuracy, reverse=True)
    why_not = why_unpaired(compared)
    pairs = [] if why_not else _pairs(compared)
    target.mkdir(parents=True, exist_ok=True)
    if any(one.files.history for one in compared):
        figures.curves(compared, target / "curves.png")
    if not why_not and len(compared) <= figures.MOST_NAMED:
        figures.classes(compared, target / "classes.png")
    write_json(target / "comparison.json", _content(compared, pairs, why_not))
    main = tag(
        "main",
        sections.result(compared),
        sections.difference(compared, pairs, why_not),
        sections.curves(png(target / "curves.png"), compared),
        sections.classes(png(target / "classes.png"), compared, why_not),
        sections.settings(compared),
    )
    return write_page(target / "report.html", page(f"{len(compared)} runs compared", sections.header(compared), main))


def _accuracy(one: Compared) -> tuple[bool, float]:
    """What was measured on the test split comes before what was not."""
    record = one.evaluation
    accuracy = record["accuracy"] if record is not None else one.files.summary["val/accuracy"]
    return record is not None, accuracy or 0.0


def _pairs(compared: Sequence[Compared]) -> list[PairedDifference]:
    rights = [one.is_right for one in compared]
    best = rights[0]
    assert best is not None
    return [paired(best, right) for right in rights[1:] if right is not None]


def _content(compared: Sequence[Compared], pairs: Sequence[PairedDifference], why_not: str) -> dict[str, Any]:
    corrected = holm([pair.p_value for pair in pairs])
    return {
        "best": compared[0].label,
        "runs": {one.label: _of_run(one) for one in compared},
        "not_compared": why_not or None,
        "against_best": {
            one.label: dataclasses.asdict(pair)
            | {"difference": pair.difference, "interval": list(pair.interval), "p": pair.p_value, "p_corrected": p}
            for one, pair, p in zip(compared[1:], pairs, corrected, strict=False)  # no pairs, where they do not fit
        },
    }


def _of_run(one: Compared) -> dict[str, Any]:
    record = dict(one.evaluation or {})
    return {
        "folder": one.files.shown_folder,
        "test": {key: record[key] for key in TEST} if record else None,
        "val/accuracy": one.files.summary["val/accuracy"],
        "train_seconds": one.files.summary["train_seconds"],
    }
