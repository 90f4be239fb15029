"""Whether two classifiers that saw the same images differ, and by how much."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from landuse.evaluation.metrics import Z_95

# Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond them the normal's is near enough.
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class PairedDifference:
    """Two classifiers on the same images; only those count that one of them alone has right."""

    num_images: int
    only_first: int  # images that the first alone has right
    only_second: int

    @property
    def difference(self) -> float:
        """Accuracy of the second less that of the first."""
        return (self.only_second - self.only_first) / self.num_images

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar test: the chance of a split at least as uneven, were both equally good.

        McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947.
        """
        n, fewer = self.only_first + self.only_second, min(self.only_first, self.only_second)
        k = np.arange(1, fewer + 1)
        log_ways = np.concatenate([[0.0], np.cumsum(np.log(n + 1 - k) - np.log(k))])  # ln of n over k, from k = 0 on
        return min(1.0, 2 * float(np.exp(log_ways - n * np.log(2)).sum()))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference (Agresti and Min, "Simple improved confidence intervals for comparing
        matched proportions", Statistics in Medicine 24, 2005: half an image is added to each of the four cells)."""
        first, second, n = self.only_first + 0.5, self.only_second + 0.5, self.num_images + 2
        centre = (second - first) / n
        half = Z_95 * sqrt(first + second - (second - first) ** 2 / n) / n
        return max(-1.0, centre - half), min(1.0, centre + half)


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedDifference:
    """From which images each has right, arrays of shape (N,) in the same order."""
    if first.shape != second.shape:
        raise ValueError(f"the same images are needed, got {first.shape} and {second.shape}")
    return PairedDifference(len(first), int((first & ~second).sum()), int((second & ~first).sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, "A simple sequentially rejective multiple test procedure", 1979).

    Returns:
        In the order given: below 0.05 where the difference may be called one, with 5 % risk for all together.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of at least two shares (0..1) with its 95 % interval by Student's t: what other seeds would give."""
    degrees = len(values) - 1
    quantile = T_95[degrees - 1] if degrees <= len(T_95) else Z_95
    mean, half = fmean(values), quantile * stdev(values) / sqrt(len(values))
    return mean, max(0.0, mean - half), min(1.0, mean + half)
