"""Calibrated probabilities: the one number that the logits are divided by."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

LOWEST, HIGHEST = 0.1, 10.0  # what lies outside is no measurement, such as of a split without a single mistake
HALVINGS = 60  # of the interval, which leaves float64's own precision


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The temperature T at which softmax(logits / T) has the smallest negative log likelihood.

    Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2; fit it on images that the weights
    were not trained on. No prediction changes by it. In 1 / T the loss is convex: its derivative has one zero at most.

    Args:
        logits: (N, C).
        labels: (N,), true class indices.

    Returns:
        T; 1.0, with a warning, where the images say nothing of it: the best one lies outside 0.1 to 10.
    """
    logits = logits.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        """Derivative of the mean loss by 1 / T: the mean logit under softmax, less the label's."""
        return float(((softmax(logits, np.exp(-log_inverse)) * logits).sum(axis=1) - of_label).mean())

    low, high = -np.log(HIGHEST), -np.log(LOWEST)
    if not slope(low) < 0 < slope(high):
        log.warning("The probabilities stay as they are: %d images do not tell how sure the model may be", len(labels))
        return 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def softmax(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities (N, C) float64 of logits (N, C)."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
