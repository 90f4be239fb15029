"""The area of each class, as counted and corrected for the classifier's confusion."""

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.errors import UserError
from landuse.files import read_mapping, replacing
from landuse.mapping.areas import correct
from landuse.mapping.rasters import UNCLASSIFIED, Counts, Values
from landuse.serving.artifact import ServedModel

log = logging.getLogger(__name__)

LARGEST_EVALUATION = 50_000_000  # bytes
COLUMNS = (
    "class", "value", "pixels", "counted_share", "counted_ha", "corrected_share", "low_share", "high_share",
    "corrected_ha", "low_ha", "high_ha",
)  # fmt: skip
SQUARE_METRES_PER_HECTARE = 10_000.0


@dataclass(frozen=True)
class Confusion:
    """How a model mistakes classes for each other.

    Attributes:
        counts: int64 (C, C), rows true, columns predicted.
        source: where it is from, in words.
    """

    counts: NDArray[np.int64]
    source: str


def find_confusion(given: str | None, model: ServedModel, min_confidence: float) -> tuple[Confusion | None, str]:
    """The confusion on the test split, from evaluation.json; and why there is none, or what is to be said of it.

    Args:
        given: the file; None: that of the run which the exported folder lies in.
        min_confidence: of the map. Where it leaves places out, the rates of all test images are not those of the rest.

    Raises:
        UserError: the given file is not one of this model.
    """
    if min_confidence > 0:
        return None, "not corrected: map.min_confidence leaves places out, and the confusion is of all test images"
    path = Path(given) if given is not None else model.folder.parent.parent / "evaluation.json"
    if given is None and not path.is_file():
        return None, "not corrected: the run's test split was not evaluated yet (python -m landuse.evaluate run=PATH)"
    if not path.is_file():
        raise UserError(f"map.evaluation={given}: no such file. Give the evaluation.json of this model.")
    content = read_mapping(path, LARGEST_EVALUATION)
    problem = _problem(content, model)
    if problem and given is not None:
        raise UserError(f"map.evaluation={given}: {problem}. Give the evaluation.json of this model.")
    if problem:
        return None, f"not corrected: {path}: {problem}"
    counts = np.array(content["confusion_matrix"], np.int64)
    source = f"the confusion on {counts.sum():,} images of the split {content.get('split', 'test')}"
    return Confusion(counts, source), f"corrected for {source}"


def _problem(content: dict[str, Any], model: ServedModel) -> str | None:
    matrix, num_classes = content.get("confusion_matrix"), len(model.classes)
    if content.get("classes") != list(model.classes):
        return "it is of other classes, or cannot be read"
    is_square = isinstance(matrix, list) and len(matrix) == num_classes
    if not is_square or not all(
        isinstance(row, list) and len(row) == num_classes and all(type(n) is int and 0 <= n < 2**40 for n in row)
        for row in matrix or ()
    ):
        return "its confusion_matrix is damaged"
    if not all(map(sum, matrix or ())):
        return "it has classes without images"
    weights = model.info.get("source", {}).get("weights_sha256")
    if content.get("model_fingerprint") != weights:
        return "it is of other weights than the export"
    return None


def area_rows(
    counts: Counts, classes: Sequence[str], values: Values, confusion: Confusion | None, tile_px: int
) -> list[dict[str, Any]]:
    """A row a class with the columns of areas.csv, and one of the unclassified where there are any.

    Args:
        tile_px: pixels of a tile, which tells how many independent answers the counts rest on.
    """
    pixels, area = counts.pixels, counts.square_metres
    measure = pixels.astype(np.float64) if area is None else area
    classified = float(measure[:-1].sum())
    hectares = None if area is None else SQUARE_METRES_PER_HECTARE
    rows: list[dict[str, Any]] = [
        {
            "class": name,
            "value": value,
            "pixels": int(pixels[value]),
            **_amount("counted", measure[value], measure, hectares),
        }
        for value, name in enumerate(classes)
    ]
    corrected = None
    if confusion is not None and classified > 0:
        num_tiles = max(1.0, float(pixels[:-1].sum()) / tile_px)
        corrected = correct(measure[:-1], confusion.counts, num_tiles, np.random.default_rng(0))
    for i, row in enumerate(rows):
        for name, share in (
            ("corrected", corrected.share), ("low", corrected.low), ("high", corrected.high)
        ) if corrected is not None else ():  # fmt: skip
            row |= _amount(name, float(share[i]) * classified, measure, hectares)
    if pixels[-1]:
        amount = _amount("counted", measure[-1], measure, hectares)
        rows.append({"class": UNCLASSIFIED, "value": values.unclassified, "pixels": int(pixels[-1]), **amount})
    return [{column: row.get(column) for column in COLUMNS} for row in rows]


def _amount(name: str, amount: float, all_of_them: NDArray[np.float64], hectares: float | None) -> dict[str, Any]:
    """As a share of all that holds data, and in hectares where these are known."""
    total = float(all_of_them.sum())
    share = float(amount) / total if total else 0.0
    return {f"{name}_share": share, f"{name}_ha": None if hectares is None else float(amount) / hectares}


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The rows as a table; what is not known stays empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(
        {key: f"{value:.10g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
    )
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
