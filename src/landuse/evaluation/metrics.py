"""Classification metrics as sums over counts, in numpy alone.

Nothing here is a mean of batch means: every function sees all images of a split at once, so the numbers do not depend
on the batch size and agree with scikit-learn.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# A probability below this counts as this in the loss: one image adds at most -ln(1e-12) = 27.6 nats, never infinity.
PROBABILITY_FLOOR = 1e-12
# Softmax in float32 sums to one within 1e-6; logits handed over by mistake miss by far more than this.
SUM_TOLERANCE = 1e-3
Z_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


class ClassScores(NamedTuple):
    """Scores of each class, arrays of shape (C,); 0 where a score is undefined (nothing to divide by)."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    support: IntArray


class ReliabilityBin(TypedDict):
    """Images whose confidence lies in (lower, upper]; accuracy and mean confidence are None in an empty bin."""

    lower: float
    upper: float
    count: int
    accuracy: float | None
    confidence: float | None


class ClassReport(TypedDict):
    """Scores of one class; `support` is its number of images."""

    precision: float
    recall: float
    f1: float
    support: int


class Summary(TypedDict):
    """All that is said about one split, in plain Python types (the body of `evaluation.json`)."""

    num_images: int
    accuracy: float
    accuracy_ci95: list[float]
    macro_f1: float
    loss: float
    ece: float
    reliability: list[ReliabilityBin]
    per_class: dict[str, ClassReport]
    confusion_matrix: list[list[int]]
    classes: list[str]


def wilson_interval(num_correct: int, num_images: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a proportion, the default at 95 % (Wilson, "Probable inference...", JASA 22, 1927).

    Unlike the normal approximation it stays inside [0, 1] and keeps its coverage near 0 and 1, where good models live.
    """
    if num_images < 1:
        raise ValueError(f"an interval needs at least one image, got num_images={num_images}")
    if not 0 <= num_correct <= num_images:
        raise ValueError(f"num_correct must lie in 0..{num_images}, got {num_correct}")
    share = num_correct / num_images
    scale = 1 + z**2 / num_images
    centre = (share + z**2 / (2 * num_images)) / scale
    half_width = z / scale * sqrt(share * (1 - share) / num_images + z**2 / (4 * num_images**2))
    # At the ends the two terms cancel; rounding would leave 1e-17 where the formula says 0 (or 1).
    lower = 0.0 if num_correct == 0 else centre - half_width
    upper = 1.0 if num_correct == num_images else centre + half_width
    return lower, upper


def confusion_matrix(labels: NDArray[Any], predictions: NDArray[Any], num_classes: int) -> IntArray:
    """Count images by true class (row) and predicted class (column).

    Args:
        labels: true class indices, integer, shape (N,).
        predictions: predicted class indices, integer, shape (N,).
        num_classes: C; every index must lie in 0..C-1.

    Returns:
        Counts, int64, shape (C, C).

    Raises:
        ValueError: on other shapes or types, different lengths, no image, or an index out of range.
    """
    labels = _class_indices(labels, "labels", num_classes)
    predictions = _class_indices(predictions, "predictions", num_classes)
    if len(labels) != len(predictions):
        raise ValueError(f"{len(labels)} labels do not match {len(predictions)} predictions")
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def precision_recall_f1(confusion: IntArray) -> ClassScores:
    """Scores of each class from a (C, C) confusion matrix with true classes as rows.

    F1 is 2 TP / (images of the class + predictions of the class), which stays defined when precision is not.
    """
    _require_square(confusion)
    hits = np.diagonal(confusion)
    num_true, num_predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        precision=_ratio(hits, num_predicted),
        recall=_ratio(hits, num_true),
        f1=_ratio(2 * hits, num_true + num_predicted),
        support=num_true.astype(np.int64),
    )


def macro_f1(confusion: IntArray) -> float:
    """Unweighted mean F1 over the classes that occur in the labels or in the predictions, as scikit-learn has it.

    A class of the model that the split lacks and the model never predicts says nothing, so it is left out.
    """
    _require_square(confusion)
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    if not occurs.any():
        raise ValueError("macro F1 of an empty confusion matrix is undefined")
    return float(precision_recall_f1(confusion).f1[occurs].mean())


def reliability_bins(confidence: NDArray[Any], correct: NDArray[Any], num_bins: int = 15) -> list[ReliabilityBin]:
    """Table behind a reliability diagram: equal-width bins over (0, 1], each closed on the right.

    Args:
        confidence: probability of the predicted class, float, shape (N,).
        correct: whether the prediction is right, bool, shape (N,).
        num_bins: number of bins; a confidence of exactly 0 joins the first.

    Raises:
        ValueError: on other shapes, no image, or a confidence that is not in [0, 1].
    """
    counts, num_correct, total_confidence = _bin_sums(confidence, correct, num_bins)
    edges = np.linspace(0, 1, num_bins + 1)
    return [
        ReliabilityBin(
            lower=float(edges[i]),
            upper=float(edges[i + 1]),
            count=int(counts[i]),
            accuracy=float(num_correct[i] / counts[i]) if counts[i] else None,
            confidence=float(total_confidence[i] / counts[i]) if counts[i] else None,
        )
        for i in range(num_bins)
    ]


def expected_calibration_error(confidence: NDArray[Any], correct: NDArray[Any], num_bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over the bins of `reliability_bins`, weighted by their images.

    Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3. Arguments and errors as there.
    """
    counts, num_correct, total_confidence = _bin_sums(confidence, correct, num_bins)
    # count/N * |correct/count - confidence/count| with the counts cancelled: no division by an empty bin.
    return float(np.abs(num_correct - total_confidence).sum() / counts.sum())


def summarise(probabilities: NDArray[Any], labels: NDArray[Any], classes: Sequence[str]) -> Summary:
    """Everything the evaluation of one split reports.

    Args:
        probabilities: softmax output, float, shape (N, C); rows sum to one. The prediction is the first largest.
        labels: true class indices, integer, shape (N,).
        classes: names of the C classes, in the order of the columns.

    Returns:
        A dict of plain Python types. `loss` is the mean negative log likelihood in nats, with probabilities below
        `PROBABILITY_FLOOR` counted as that floor.

    Raises:
        ValueError: on wrong shapes or types, no image, labels out of range, repeated class names, or rows that are not
            probabilities.
    """
    classes = list(classes)
    if len(set(classes)) != len(classes):
        raise ValueError(f"class names must be different, got {classes}")
    probabilities = _checked_probabilities(probabilities, len(classes))
    labels = _class_indices(labels, "labels", len(classes))
    if len(labels) != len(probabilities):
        raise ValueError(f"{len(labels)} labels do not match {len(probabilities)} rows of probabilities")
    predictions = probabilities.argmax(axis=1)
    confidence, correct = probabilities.max(axis=1), predictions == labels
    true_probability = probabilities[np.arange(len(labels)), labels]
    confusion = confusion_matrix(labels, predictions, len(classes))
    num_images, num_correct = len(labels), int(correct.sum())
    return Summary(
        num_images=num_images,
        accuracy=num_correct / num_images,
        accuracy_ci95=list(wilson_interval(num_correct, num_images)),
        macro_f1=macro_f1(confusion),
        loss=float(-np.log(np.maximum(true_probability, PROBABILITY_FLOOR)).mean()),
        ece=expected_calibration_error(confidence, correct),
        reliability=reliability_bins(confidence, correct),
        per_class=_class_reports(classes, precision_recall_f1(confusion)),
        confusion_matrix=confusion.tolist(),
        classes=classes,
    )


def _class_reports(classes: Sequence[str], scores: ClassScores) -> dict[str, ClassReport]:
    return {
        name: ClassReport(precision=float(precision), recall=float(recall), f1=float(f1), support=int(support))
        for name, precision, recall, f1, support in zip(classes, *scores, strict=True)
    }


def _ratio(numerator: IntArray, denominator: IntArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _bin_sums(
    confidence: NDArray[Any], correct: NDArray[Any], num_bins: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Images, correct images and summed confidence of each bin, each of shape (num_bins,)."""
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    if confidence.ndim != 1 or confidence.shape != correct.shape:
        raise ValueError(
            f"confidence and correct must both have shape (N,), got {confidence.shape} and {correct.shape}"
        )
    if len(confidence) == 0:
        raise ValueError("there is no image to measure calibration on")
    confidence = confidence.astype(np.float64)
    # `not all inside` rather than `any outside`: a NaN is neither.
    if not np.all((confidence >= 0) & (confidence <= 1 + SUM_TOLERANCE)):
        raise ValueError("every confidence must be a probability in [0, 1]")
    edges = np.linspace(0, 1, num_bins + 1)
    bins = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, num_bins - 1)
    return (
        np.bincount(bins, minlength=num_bins).astype(np.int64),
        np.bincount(bins, weights=correct, minlength=num_bins).astype(np.float64),
        np.bincount(bins, weights=confidence, minlength=num_bins).astype(np.float64),
    )


def _class_indices(values: NDArray[Any], name: str, num_classes: int) -> IntArray:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers of shape (N,), got {values.dtype} of shape {values.shape}")
    if len(values) == 0:
        raise ValueError(f"{name} are empty: there is no image to evaluate")
    if values.min() < 0 or values.max() >= num_classes:
        raise ValueError(f"{name} must lie in 0..{num_classes - 1}, got {values.min()}..{values.max()}")
    return values.astype(np.int64)


def _checked_probabilities(probabilities: NDArray[Any], num_classes: int) -> FloatArray:
    if probabilities.ndim != 2 or probabilities.shape[1] != num_classes:
        raise ValueError(f"probabilities must have shape (N, {num_classes}), got {probabilities.shape}")
    probabilities = probabilities.astype(np.float64)
    if not np.isfinite(probabilities).all():
        row = int(np.flatnonzero(~np.isfinite(probabilities).all(axis=1))[0])
        raise ValueError(f"probabilities must be finite; row {row} is not")
    off = (probabilities < 0).any(axis=1) | (np.abs(probabilities.sum(axis=1) - 1) > SUM_TOLERANCE)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise ValueError(f"probabilities must be >= 0 and sum to 1 in each row; row {row} does not (logits?)")
    return probabilities


def _require_square(confusion: IntArray) -> None:
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"a confusion matrix must have shape (C, C), got {confusion.shape}")
