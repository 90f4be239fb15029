"""The page of a comparison, and the same as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landuse.evaluation.comparing import figures, sections
from landuse.evaluation.comparing.pairs import Pair, against_best
from landuse.evaluation.comparing.reading import Compared, read_runs, same_images
from landuse.files import write_json
from landuse.page.markup import tag
from landuse.page.parts import png
from landuse.page.write import page, write_page

TEST = ("accuracy", "accuracy_ci95", "macro_f1", "loss", "ece")  # of evaluation.json


def compare_runs(folders: Sequence[Path], target: Path) -> Path:
    """Write ``<target>/report.html`` and ``comparison.json``; returns the former's path.

    Args:
        folders: run folders. Of those that were evaluated on the same test images, the most accurate is what the
            others are held against.

    Raises:
        UserError: fewer than two runs, or files that cannot be read.
    """
    compared = sorted(read_runs(folders), key=_accuracy, reverse=True)
    same, left_out = same_images(compared)
    pairs = against_best(same)
    target.mkdir(parents=True, exist_ok=True)
    curves, classes = target / "curves.png", target / "classes.png"
    for path in (curves, classes):  # of an earlier comparison
        path.unlink(missing_ok=True)
    if any(one.files.history for one in compared):
        figures.curves(compared, curves)
    if 0 < len(same) <= figures.MOST_NAMED:
        figures.classes(same, classes, [compared.index(one) for one in same])
    write_json(target / "comparison.json", _content(compared, same, pairs, left_out))
    main = tag(
        "main",
        sections.result(compared),
        sections.difference(same, pairs, left_out),
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


def _content(
    compared: Sequence[Compared], same: Sequence[Compared], pairs: Sequence[Pair], left_out: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "runs": {one.label: _of_run(one) for one in compared},
        "best": same[0].label if same else None,
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
