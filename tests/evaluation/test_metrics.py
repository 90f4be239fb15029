"""Metrics against scikit-learn, against the literature and against hand-made cases."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from landuse.evaluation.metrics import (
    PROBABILITY_FLOOR,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    precision_recall_f1,
    reliability_bins,
    summarise,
    wilson_interval,
)

Array = NDArray[Any]
ROUNDING = 1e-15  # where the order of a float64 sum may differ


def random_case(seed: int, num_images: int, num_classes: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(num_classes, 0.3), num_images)
    return probabilities, generator.integers(0, num_classes, num_images)


def absent_class() -> tuple[Array, Array]:
    """Class 2 of 4 has no image but is predicted; class 3 occurs nowhere."""
    return np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.2, 0.7, 0.0], [0.2, 0.6, 0.2, 0.0]]), np.array([0, 1, 1])


def perfect() -> tuple[Array, Array]:
    labels = np.array([0, 1, 2, 1, 0])
    return np.eye(3)[labels], labels


def single_class() -> tuple[Array, Array]:
    return np.ones((4, 1)), np.zeros(4, np.int64)


def always_wrong() -> tuple[Array, Array]:
    labels = np.array([0, 1, 2])
    return np.eye(3)[(labels + 1) % 3], labels


CASES = {
    "random": random_case(0, 997, 21),
    "few images, many classes": random_case(1, 20, 45),
    "float32": (random_case(2, 400, 10)[0].astype(np.float32), random_case(2, 400, 10)[1]),
    "absent class": absent_class(),
    "perfect": perfect(),
    "single class": single_class(),
    "always wrong": always_wrong(),
}


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_summary_agrees_with_scikit_learn(case: tuple[Array, Array]) -> None:
    probabilities, labels = case
    num_classes = probabilities.shape[1]
    predictions = probabilities.argmax(axis=1)
    classes = [f"class {i}" for i in range(num_classes)]

    summary = summarise(probabilities, labels, classes)

    everything = list(range(num_classes))
    per_class = json.loads(json.dumps(summary["per_class"]))
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=everything, zero_division=0.0
    )
    columns = ("precision", "recall", "f1", "support")
    assert [[per_class[name][column] for name in classes] for column in columns] == [
        list(column) for column in expected
    ]
    assert summary["confusion_matrix"] == (
        sklearn_metrics.confusion_matrix(labels, predictions, labels=everything).tolist()
    )
    assert summary["accuracy"] == sklearn_metrics.accuracy_score(labels, predictions)
    assert summary["macro_f1"] == sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0.0)
    assert summary["num_images"] == len(labels) == sum(entry["count"] for entry in summary["reliability"])


def test_loss_agrees_with_scikit_learn() -> None:
    probabilities, labels = random_case(3, 500, 7)
    probabilities = 0.99 * probabilities + 0.01 / 7  # away from both clamps
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = sklearn_metrics.log_loss(labels, probabilities, labels=list(range(7)))
    assert summarise(probabilities, labels, list("abcdefg"))["loss"] == pytest.approx(expected, rel=ROUNDING)


def test_loss_of_an_impossible_label_is_the_clamp() -> None:
    summary = summarise(*always_wrong(), ["a", "b", "c"])
    assert summary["loss"] == pytest.approx(-np.log(PROBABILITY_FLOOR), rel=ROUNDING)


def test_summary_survives_json() -> None:
    summary = summarise(*absent_class(), ["a", "b", "c", "d"])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_macro_f1_leaves_out_a_class_that_occurs_nowhere() -> None:
    confusion = np.array([[2, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert macro_f1(confusion) == 1.0
    with pytest.raises(ValueError, match="empty confusion matrix"):
        macro_f1(np.zeros((3, 3), np.int64))


def test_f1_is_defined_by_counts() -> None:
    scores = precision_recall_f1(np.array([[3, 1], [2, 4]]))
    assert scores.precision.tolist() == [3 / 5, 4 / 5]
    assert scores.recall.tolist() == [3 / 4, 4 / 6]
    assert scores.f1.tolist() == [6 / 9, 8 / 11]
    assert scores.support.tolist() == [4, 6]


@pytest.mark.parametrize(
    ("num_correct", "num_images", "expected"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17, 1998, table I, method 3.
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (29, 29, (0.8830, 1.0)),
    ],
)
def test_wilson_interval_of_the_literature(num_correct: int, num_images: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(num_correct, num_images) == pytest.approx(expected, abs=5e-5)


def test_wilson_interval_is_symmetric_and_exact_at_the_ends() -> None:
    for num_images in (1, 7, 420, 10**7):
        lower_of_none, upper_of_none = wilson_interval(0, num_images)
        lower_of_all, upper_of_all = wilson_interval(num_images, num_images)
        assert (lower_of_none, upper_of_all) == (0.0, 1.0)
        assert lower_of_all == pytest.approx(1 - upper_of_none)


@pytest.mark.parametrize(("num_correct", "num_images"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(num_correct: int, num_images: int) -> None:
    with pytest.raises(ValueError, match="num_"):
        wilson_interval(num_correct, num_images)


def test_calibration_of_a_case_by_hand() -> None:
    confidence, correct = np.array([0.95, 0.85, 0.85, 0.15]), np.array([True, True, False, False])
    assert expected_calibration_error(confidence, correct, num_bins=10) == pytest.approx(
        (abs(1 - 0.95) + abs(1 - 1.7) + abs(0 - 0.15)) / 4
    )


def test_calibration_agrees_with_the_plain_definition() -> None:
    generator = np.random.default_rng(4)
    confidence = generator.random(2000)
    correct = generator.random(2000) < confidence**2
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected, rel=1e-12)


def test_bins_are_closed_on_the_right() -> None:
    bins = reliability_bins(np.array([0.0, 0.5, 0.5, 1.0]), np.array([False, True, False, True]), num_bins=2)
    assert [entry["count"] for entry in bins] == [3, 1]
    assert (bins[0]["accuracy"], bins[0]["confidence"]) == (1 / 3, 1 / 3)


def test_an_empty_bin_has_no_accuracy() -> None:
    bins = reliability_bins(np.array([0.9]), np.array([True]), num_bins=2)
    assert bins[0] == {"lower": 0.0, "upper": 0.5, "count": 0, "accuracy": None, "confidence": None}


def test_confusion_has_true_classes_as_rows() -> None:
    assert confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 2).tolist() == [[0, 2], [0, 1]]


def test_small_integer_labels_do_not_overflow() -> None:
    labels = np.full(3, 44, np.uint8)
    assert confusion_matrix(labels, labels, 45)[44, 44] == 3


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((2, 3)) / 3, np.array([0, 1]), r"shape \(N, 2\), got \(2, 3\)"),
        (np.ones(2), np.array([0, 1]), r"shape \(N, 2\), got \(2,\)"),
        (np.ones((2, 2)) / 2, np.array([0]), "1 labels do not match 2 rows"),
        (np.ones((2, 2)) / 2, np.array([[0], [1]]), "labels must be integers of shape"),
        (np.ones((2, 2)) / 2, np.array([0.0, 1.0]), "labels must be integers"),
        (np.ones((2, 2)) / 2, np.array([0, 2]), r"labels must lie in 0..1, got 0..2"),
        (np.ones((2, 2)) / 2, np.array([-1, 1]), r"labels must lie in 0..1, got -1..1"),
        (np.array([[0.5, 0.5], [np.nan, 1.0]]), np.array([0, 1]), "finite; row 1"),
        (np.array([[0.5, 0.5], [4.0, -3.0]]), np.array([0, 1]), r"row 1 does not \(logits\?\)"),
        (np.empty((0, 2)), np.empty(0, np.int64), "labels are empty"),
    ],
)
def test_summarise_refuses(probabilities: Array, labels: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(probabilities, labels, ["a", "b"])


def test_summarise_refuses_repeated_class_names() -> None:
    with pytest.raises(ValueError, match="different"):
        summarise(np.ones((1, 2)) / 2, np.array([0]), ["a", "a"])


def test_the_other_functions_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="2 labels do not match 1 predictions"):
        confusion_matrix(np.array([0, 1]), np.array([0]), 2)
    with pytest.raises(ValueError, match=r"shape \(C, C\)"):
        precision_recall_f1(np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="probability"):
        reliability_bins(np.array([np.nan]), np.array([True]))
    with pytest.raises(ValueError, match=r"shape \(N,\)"):
        reliability_bins(np.array([0.5, 0.5]), np.array([True]))
    with pytest.raises(ValueError, match="no image"):
        expected_calibration_error(np.empty(0), np.empty(0, np.bool_))
    with pytest.raises(ValueError, match="num_bins"):
        reliability_bins(np.array([0.5]), np.array([True]), num_bins=0)
