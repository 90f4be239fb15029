"""The temperature is the one that the loss is smallest at."""

import numpy as np
import pytest

from landuse.exporting.temperature import fit_temperature, softmax


def drawn(temperature: float, num_images: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that follow softmax(logits / temperature)."""
    draws = np.random.default_rng(0)
    logits = draws.normal(0, 3, (num_images, 5))
    probabilities = softmax(logits, temperature)
    labels = (probabilities.cumsum(axis=1) < draws.random((num_images, 1))).sum(axis=1)
    return logits, labels


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return float(-np.log(softmax(logits, temperature)[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_of_labels_that_follow_it_is_found(true: float) -> None:
    logits, labels = drawn(true)
    found = fit_temperature(logits.astype(np.float32), labels)
    assert found == pytest.approx(true, rel=0.1)
    least = loss(logits, labels, found)
    assert all(least <= loss(logits, labels, found * factor) for factor in (0.5, 0.99, 1.01, 2))


def test_images_without_a_mistake_tell_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logits, _ = drawn(1.0, 50)
    assert fit_temperature(logits, logits.argmax(axis=1)) == 1.0
    assert "50 images do not tell" in caplog.text


def test_labels_that_are_chance_tell_nothing() -> None:
    logits, labels = drawn(1.0, 200)
    assert fit_temperature(-logits, labels) == 1.0


def test_softmax_takes_large_logits() -> None:
    assert softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]), 1.0).tolist() == [[1.0, 0.0], [0.5, 0.5]]
