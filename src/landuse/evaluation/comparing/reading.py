"""The runs to compare, read and named."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from landuse import runs
from landuse.errors import UserError
from landuse.evaluation.predictions import Predictions, read_csv
from landuse.evaluation.report.files import Evaluation, RunFiles, read_run

MOST_RUNS = 40  # on one page


@dataclass(frozen=True, eq=False)
class Compared:
    """One of the runs."""

    label: str
    files: RunFiles

    @property
    def evaluation(self) -> Evaluation | None:
        """Of the test split; None where the run was not evaluated."""
        return self.files.evaluation

    @cached_property
    def predictions(self) -> Predictions | None:
        """Of each test image, sorted by its path; None where there is no file of them."""
        path = self.files.folder / "predictions.csv"
        if self.evaluation is None or not path.is_file():
            return None
        try:
            found = read_csv(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{error}: evaluate that run again.") from error
        if list(found.classes) != self.evaluation["classes"] or not found.paths:
            raise UserError(f"{path} is not of the evaluation beside it: evaluate that run again.")
        order = np.argsort(np.array(found.paths))
        paths = [found.paths[i] for i in order]
        return Predictions(paths, found.labels[order], found.probabilities[order], found.classes)

    @property
    def images(self) -> tuple[Any, ...] | None:
        """The same for runs that were evaluated on the same images of the same classes; None without predictions."""
        if (found := self.predictions) is None:
            return None
        return tuple(found.classes), tuple(found.paths), found.labels.tobytes()

    @cached_property
    def config(self) -> dict[str, Any]:
        """Dotted keys that say what the run is, not where it was done."""
        return runs.comparable(self.files.config)

    @property
    def group(self) -> str | None:
        """The same for evaluated, completed runs that differ in nothing but their seed, of one code and precision.

        None for others.
        """
        record = self.evaluation
        if record is None or self.files.summary["status"] != "completed":
            return None
        config = {key: value for key, value in sorted(self.config.items()) if key not in ("seed", "run_name")}
        measured = [record[key] for key in ("data_fingerprint", "split_fingerprint", "test_time_augmentation")]
        made = [self.files.provenance.get(key) for key in ("source_hash", "torch", "resumed_from")]
        return repr((config, measured, made, record["precision"]))


def read_runs(folders: Sequence[Path]) -> list[Compared]:
    """Read them, each named by as much of its path as tells it from the others.

    Raises:
        UserError: fewer than two or more than ``MOST_RUNS``, or files that cannot be read.
    """
    if not 2 <= len(folders) <= MOST_RUNS:
        raise UserError(f"runs= names {len(folders)} run(s): two are needed, and {MOST_RUNS} at most.")
    return [Compared(label, read_run(folder)) for label, folder in zip(_labels(folders), folders, strict=True)]


def _labels(folders: Sequence[Path]) -> list[str]:
    for num_parts in range(1, max(len(folder.parts) for folder in folders) + 1):
        labels = ["/".join(folder.parts[-num_parts:]) for folder in folders]
        if max(Counter(labels).values()) == 1:
            return labels
    return [str(folder) for folder in folders]


def same_images(compared: Sequence[Compared]) -> tuple[list[Compared], dict[str, str]]:
    """The largest part of the runs that was evaluated on the same images, in their order; the others, and why they not.

    Returns:
        Nothing in the first where no two runs share their images.
    """
    counts = Counter(one.images for one in compared if one.images is not None)
    most, count = counts.most_common(1)[0] if counts else (None, 0)
    same = [one for one in compared if count > 1 and one.images == most]
    left_out = {one.label: _why_left_out(one) for one in compared if one not in same}
    return same, left_out


def _why_left_out(one: Compared) -> str:
    if one.evaluation is None:
        return "not evaluated on the test split (python -m landuse.evaluate run=<folder>)"
    if one.images is None:
        return "has no predictions.csv (evaluate it again)"
    return "was evaluated on other images or classes than most"


def over_seeds(compared: Sequence[Compared]) -> list[dict[str, Compared]]:
    """The runs by seed, for each group of at least two that differ in their seed alone; of equal seeds the first."""
    groups: dict[str, dict[str, Compared]] = {}
    for one in compared:
        if (group := one.group) is not None:
            groups.setdefault(group, {}).setdefault(str(one.config.get("seed")), one)
    return [group for group in groups.values() if len(group) > 1]
