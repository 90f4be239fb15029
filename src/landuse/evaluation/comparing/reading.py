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


@dataclass(frozen=True)
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
        """Of each test image, sorted by its path."""
        path = self.files.folder / "predictions.csv"
        if self.evaluation is None or not path.is_file():
            return None
        try:
            found = read_csv(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{error}: evaluate that run again.") from error
        order = np.argsort(np.array(found.paths))
        return Predictions(
            [found.paths[i] for i in order], found.labels[order], found.probabilities[order], found.classes
        )

    @cached_property
    def config(self) -> dict[str, Any]:
        """Dotted keys that say what the run is, not where it was done."""
        return runs.comparable(self.files.config)

    @property
    def group(self) -> str | None:
        """The same for evaluated, completed runs that differ in nothing but their seed; None for others."""
        record = self.evaluation
        if record is None or self.files.summary["status"] != "completed":
            return None
        config = {key: value for key, value in sorted(self.config.items()) if key not in ("seed", "run_name")}
        measured = [record[key] for key in ("data_fingerprint", "split_fingerprint", "test_time_augmentation")]
        return repr((config, measured))


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


def why_unpaired(best: Compared, other: Compared) -> str:
    """Why the accuracies of two runs cannot be compared image by image; empty: they can."""
    for one in (best, other):
        if one.predictions is None:
            return "not evaluated on the test split (python -m landuse.evaluate run=<folder>)"
    first, second = best.predictions, other.predictions
    assert first is not None and second is not None
    if list(first.classes) != list(second.classes):
        return f"knows other classes than {best.label}"
    if list(first.paths) != list(second.paths) or not np.array_equal(first.labels, second.labels):
        return f"was evaluated on other images than {best.label}"
    return ""


def over_seeds(compared: Sequence[Compared]) -> list[dict[Any, Compared]]:
    """The runs by seed, for each group of at least two that differ in their seed alone; of equal seeds the first."""
    groups: dict[str, dict[Any, Compared]] = {}
    for one in compared:
        if (group := one.group) is not None:
            groups.setdefault(group, {}).setdefault(one.config.get("seed"), one)
    return [group for group in groups.values() if len(group) > 1]
