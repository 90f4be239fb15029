"""The runs to compare, read and named."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    def is_right(self) -> NDArray[np.bool_] | None:
        """Whether each test image was classified rightly, in the order of their paths."""
        return None if self.predictions is None else self.predictions.predicted == self.predictions.labels

    @cached_property
    def config(self) -> dict[str, Any]:
        """Dotted keys that say what the run is, not where it was done."""
        return runs.comparable(self.files.config)

    @property
    def without_seed(self) -> str:
        """The same for runs that differ in nothing but their seed."""
        return repr({key: value for key, value in sorted(self.config.items()) if key not in ("seed", "run_name")})


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


def why_unpaired(compared: Sequence[Compared]) -> str:
    """Why the runs' accuracies cannot be compared image by image; empty: they can."""
    missing = [one.label for one in compared if one.predictions is None]
    if missing:
        return f"Not evaluated on the test split: {', '.join(missing)}. Use python -m landuse.evaluate run=<folder>."
    first = compared[0].predictions
    assert first is not None
    for one in compared[1:]:
        other = one.predictions
        assert other is not None
        if other.classes != first.classes:
            return f"{one.label} knows other classes than {compared[0].label}."
        if other.paths != first.paths or not np.array_equal(other.labels, first.labels):
            return f"{one.label} was evaluated on other images than {compared[0].label}."
    return ""
