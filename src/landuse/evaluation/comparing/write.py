"""The page of a comparison, and the same as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landuse.evaluation.comparing import figures, sections
from landuse.evaluation.comparing.pairs import Pair, against_best
from landuse.evaluation.comparing.reading import Compared, read_runs, why_unpaired
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
    best, *others = compared
    left_out = {other.label: why for other in others if (why := why_unpaired(best, other))}
    same = [best, *(other for other in others if other.label not in left_out)]
    pairs = against_best(same)
    target.mkdir(parents=True, exist_ok=True)
    curves, classes = target / "curves.png", target / "classes.png"
    for path in (curves, classes):  # of an earlier comparison
        path.unlink(missing_ok=True)
    if any(one.files.history for one in compared):
        figures.curves(compared, curves)
    if 1 < len(same) <= figures.MOST_NAMED:
        figures.classes(same, classes)
    write_json(target / "comparison.json", _content(compared, pairs, left_out))
    main = tag(
        "main",
        sections.result(compared),
        sections.difference(best, pairs, left_out),
        sections.curves(png(curves), compared),
        sections.classes(png(classes), same),
        sections.settings(compared),
    )
    return write_page(target / "report.html", page(f"{len(compared)} runs compared", sections.header(compared), main))


def _accuracy(one: Compared) -> tuple[bool, float]:
    """What was measured on the test split comes before what was not."""
    record = one.evaluation
    accuracy = record["accuracy"] if record is not None else one.files.summary["val/accuracy"]
    return record is not None, accuracy or 0.0


def _content(compared: Sequence[Compared], pairs: Sequence[Pair], left_out: Mapping[str, str]) -> dict[str, Any]:
    return {
        "best": compared[0].label,
        "runs": {one.label: _of_run(one) for one in compared},
        "against_best": {pair.other.label: pair.to_json() for pair in pairs},
        "not_compared": dict(left_out),
    }


def _of_run(one: Compared) -> dict[str, Any]:
    record = dict(one.evaluation or {})
    return {
        "folder": one.files.shown_folder,
        "test": {key: record[key] for key in TEST} if record else None,
        "val/accuracy": one.files.summary["val/accuracy"],
        "train_seconds": one.files.summary["train_seconds"],
    }
