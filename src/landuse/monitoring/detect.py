"""Whether images are like those of a reference, by tests whose rate of false alarms is stated.

Every statistic of the images, every component of the features and the confidence is compared by a two-sample
Kolmogorov-Smirnov test, the predicted classes by a chi-square test of homogeneity. Holm's correction makes ``alpha``
the probability of any alarm over all tests, whatever their dependence (S. Holm, "A simple sequentially rejective
multiple test procedure", Scand. J. Statistics 6, 1979). Univariate tests of what a network makes of its input, so
corrected, found shifts best in the comparison of S. Rabanser, S. Günnemann and Z. Lipton, "Failing loudly", NeurIPS
2019.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.monitoring.reference import Reference, Rows
from landuse.monitoring.statistics import NAMES

FEWEST_EXPECTED = 5  # images of a class in either sample, below which the chi-square distribution is a poor guide


def compare(reference: Reference, rows: Rows, alpha: float, min_images: int = 1) -> dict[str, Any]:
    """Compare images with those of a reference.

    Args:
        alpha: probability of a result ``drift`` although nothing has changed.
        min_images: with fewer the result is ``too_few``.

    Returns:
        Plain values for JSON: ``state`` (ok, drift or too_few), ``num_images``, ``min_images``, ``alpha``, and
        ``tests``, the smallest p-value first, each with ``name``, ``kind`` (image, feature, confidence or classes),
        ``statistic`` (largest distance of the distribution functions, 0..1; of the classes chi-square), ``before`` and
        ``now`` (medians; of the classes None), ``p_value``, ``adjusted_p_value`` and ``drifted``.
    """
    num_images = len(rows.confidence)
    result = {"state": "too_few", "num_images": num_images, "min_images": min_images, "alpha": alpha, "tests": []}
    if num_images < max(1, min_images):
        return result
    tests = sorted(_tests(reference, rows), key=lambda test: test["p_value"])
    adjusted = 0.0
    for rank, test in enumerate(tests):
        adjusted = min(1.0, max(adjusted, (len(tests) - rank) * test["p_value"]))
        test |= {"adjusted_p_value": adjusted, "drifted": adjusted <= alpha}
    return result | {"state": "drift" if any(test["drifted"] for test in tests) else "ok", "tests": tests}


def _tests(reference: Reference, rows: Rows) -> Iterator[dict[str, Any]]:
    for kind, name, before, now in columns(reference, rows):
        distance = ks_distance(before, now)
        medians = [float(np.median(sample)) for sample in (before, now)]
        yield _test(kind, name, distance, ks_p_value(distance, len(before), len(now)), *medians)
    counts = [np.bincount(one.predicted, minlength=reference.num_classes) for one in (reference.rows, rows)]
    statistic, freedom = homogeneity(*counts)
    yield _test("classes", "predicted classes", statistic, chi2_p_value(statistic, freedom))


def columns(reference: Reference, rows: Rows) -> Iterator[tuple[str, str, NDArray[np.float32], NDArray[np.float32]]]:
    """(kind, name, values of the reference, values now) of all that has a distribution."""
    for column, name in enumerate(NAMES):
        yield "image", name, reference.rows.statistics[:, column], rows.statistics[:, column]
    for column in range(len(reference.components)):
        name = f"feature {column + 1}"
        yield "feature", name, reference.rows.features[:, column], rows.features[:, column]
    yield "confidence", "confidence", reference.rows.confidence, rows.confidence


def _test(
    kind: str, name: str, statistic: float, p_value: float, before: float | None = None, now: float | None = None
) -> dict[str, Any]:
    return {"name": name, "kind": kind, "statistic": statistic, "before": before, "now": now, "p_value": p_value}


def ks_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Largest distance between the empirical distribution functions of two samples."""
    first, second = np.sort(first), np.sort(second)
    places = np.concatenate([first, second])
    shares = [np.searchsorted(sample, places, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def ks_p_value(distance: float, num_first: int, num_second: int) -> float:
    """Probability of at least this distance between two samples of one continuous distribution; ties make it smaller.

    Kolmogorov's limit with M. A. Stephens's correction for the size of samples (J. Royal Statistical Society B 32,
    1970). For samples of 40 to 2000 it is within 10 % of the exact probability down to 1e-5, and within 20 % to 1e-6.
    """
    root = math.sqrt(num_first * num_second / (num_first + num_second))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:  # where the series takes many terms; it is 1 to twelve digits
        return 1.0
    signs = (1, -1) * 13
    return min(1.0, 2 * sum(sign * math.exp(-2 * (k * scaled) ** 2) for k, sign in enumerate(signs, start=1)))


def homogeneity(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float, int]:
    """Chi-square statistic and degrees of freedom of two rows of counts (C,): are they of one distribution?

    Classes of which fewer than :data:`FEWEST_EXPECTED` are expected in the smaller row are counted as one, with the
    next larger class where even together they are too few. Which those are is told by the sums over both rows, so that
    it says nothing of their difference.
    """
    counts = np.stack([first, second]).astype(np.float64)
    counts = counts[:, np.argsort(counts.sum(axis=0), kind="stable")]
    expected = counts.sum(axis=0) * min(first.sum(), second.sum()) / counts.sum()
    num_pooled = max(int((expected < FEWEST_EXPECTED).sum()), int((expected.cumsum() < FEWEST_EXPECTED).sum()) + 1)
    counts = np.column_stack([counts[:, :num_pooled].sum(axis=1), counts[:, num_pooled:]])
    expectation = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return float(((counts - expectation) ** 2 / expectation).sum()), counts.shape[1] - 1


def chi2_p_value(statistic: float, freedom: int) -> float:
    """Probability that a chi-square variable with so many degrees of freedom is at least this large.

    By recurrence over the degrees of freedom, two at a time, from those of 1 and 2 (Abramowitz and Stegun, 26.4.4-8).
    """
    if freedom == 0 or statistic == 0:
        return 1.0
    half = statistic / 2
    p_value, shape = (math.erfc(math.sqrt(half)), 0.5) if freedom % 2 else (math.exp(-half), 1.0)
    while 2 * shape < freedom:
        p_value += math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
        shape += 1
    return min(1.0, p_value)
