"""The predictions of a model, image by image, as a CSV file that any tool can read."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from landuse.evaluation.metrics import FloatArray, IntArray
from landuse.files import replacing

FIXED_COLUMNS = ["path", "label", "prediction", "confidence"]
PROBABILITY_PREFIX = "p:"


@dataclass(frozen=True, eq=False)  # eq: comparing arrays gives arrays, not a bool
class Predictions:
    """Probabilities and true classes of N images.

    Attributes:
        paths: the images, as the data set names them, N of them.
        labels: true class indices, int64, shape (N,).
        probabilities: softmax output, float64, shape (N, C).
        classes: names of the C classes, in the order of the columns.

    Raises:
        ValueError: when lengths and shapes do not fit together, a label is out of range or a class name is repeated.
    """

    paths: Sequence[str]
    labels: IntArray
    probabilities: FloatArray
    classes: Sequence[str]

    def __post_init__(self) -> None:
        num_images, num_classes = len(self.paths), len(self.classes)
        if self.labels.shape != (num_images,) or self.probabilities.shape != (num_images, num_classes):
            raise ValueError(
                f"{num_images} paths and {num_classes} classes need labels of shape ({num_images},) and probabilities"
                f" of shape ({num_images}, {num_classes}), got {self.labels.shape} and {self.probabilities.shape}"
            )
        if num_images and not 0 <= self.labels.min() <= self.labels.max() < num_classes:
            raise ValueError(f"labels must lie in 0..{num_classes - 1}, got {self.labels.min()}..{self.labels.max()}")
        if len(set(self.classes)) != num_classes:
            raise ValueError(f"class names must be different, got {list(self.classes)}")

    @property
    def predicted(self) -> IntArray:
        """Index of the first largest probability, int64, shape (N,)."""
        predicted: IntArray = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def confidence(self) -> FloatArray:
        """Probability of the predicted class, float64, shape (N,)."""
        confidence: FloatArray = self.probabilities.max(axis=1)
        return confidence

    def most_confident_mistakes(self, limit: int) -> IntArray:
        """Indices of at most `limit` wrongly classified images, the most confident first, int64."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:limit].astype(np.int64)


def write_csv(path: Path, predictions: Predictions) -> None:
    """Write one row per image: path, label, prediction, confidence, then a column `p:<class>` for each class.

    Floats are written with the fewest digits that give the same float64 back; the file replaces an older one at once.
    """
    classes = predictions.classes
    with replacing(path) as temporary, _open_text(temporary, "w") as file:
        # The writer quotes the characters of its line terminator, so a "\r" in a name needs it to be "\r\n" (RFC 4180).
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([*FIXED_COLUMNS, *(PROBABILITY_PREFIX + name for name in classes)])
        for image, label, predicted, row in zip(
            predictions.paths, predictions.labels, predictions.predicted, predictions.probabilities, strict=True
        ):
            cells = [repr(value) for value in row.tolist()]
            writer.writerow([image, classes[label], classes[predicted], cells[predicted], *cells])


def read_csv(path: Path) -> Predictions:
    """Read what `write_csv` wrote, the floats bit for bit.

    Raises:
        ValueError: naming file and line, when the header is another one, a row has too few or too many cells, a class
            is unknown, a probability is not a finite number, or prediction and confidence contradict the probabilities.
        FileNotFoundError: when there is no such file.
    """
    with _open_text(path, "r") as file:
        reader = csv.reader(file, strict=True)
        line = 1
        try:
            classes = _classes_of_header(next(reader, []))
            index_of = {name: index for index, name in enumerate(classes)}
            paths, labels, probabilities = [], [], []
            for row in reader:
                line = reader.line_num
                image, label, values = _parse_row(row, index_of)
                paths.append(image)
                labels.append(label)
                probabilities.append(values)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    return Predictions(
        paths, np.array(labels, np.int64), np.array(probabilities, np.float64).reshape(-1, len(classes)), classes
    )


def _open_text(path: Path, mode: str) -> TextIO:
    # surrogateescape: file names on Linux are bytes, and those that are no UTF-8 must survive as well.
    # newline="": the csv module itself tells a line break inside quotes from the end of a row.
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")  # type: ignore[return-value]


def _classes_of_header(header: list[str]) -> list[str]:
    fixed, columns = header[: len(FIXED_COLUMNS)], header[len(FIXED_COLUMNS) :]
    if fixed != FIXED_COLUMNS or not columns or not all(name.startswith(PROBABILITY_PREFIX) for name in columns):
        raise ValueError(
            f"expected the columns {','.join(FIXED_COLUMNS)},{PROBABILITY_PREFIX}<class>,...; got {','.join(header)!r}"
        )
    classes = [name.removeprefix(PROBABILITY_PREFIX) for name in columns]
    if len(set(classes)) != len(classes):
        raise ValueError(f"a class has two columns: {','.join(columns)!r}")
    return classes


def _parse_row(row: list[str], index_of: dict[str, int]) -> tuple[str, int, list[float]]:
    """Path, label index and the C probabilities of one row."""
    num_cells = len(FIXED_COLUMNS) + len(index_of)
    if len(row) != num_cells:
        raise ValueError(f"expected {num_cells} cells, got {len(row)}")
    image, label, prediction, confidence = row[: len(FIXED_COLUMNS)]
    for name in (label, prediction):
        if name not in index_of:
            raise ValueError(f"class {name!r} has no column {PROBABILITY_PREFIX + name!r}")
    values = [float(cell) for cell in row[len(FIXED_COLUMNS) :]]
    if not np.isfinite(values).all():
        raise ValueError("every probability must be a finite number")
    if index_of[prediction] != int(np.argmax(values)) or float(confidence) != max(values):
        raise ValueError(f"prediction {prediction!r} at {confidence} contradicts the probabilities of the row")
    return image, index_of[label], values
