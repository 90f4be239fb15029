"""How accurate a model stays when images are worse than those it was trained on."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from landuse.monitoring.corruptions import Corruption

NUM_PASSES = 35  # over the images: seven corruptions at five severities
AT_ONCE = 2**25  # bytes of images that are corrupted in memory, where noise takes twelve times as much
SEED = 0  # of the noise; the same for all models, so that they meet the same images

log = logging.getLogger(__name__)


class Robustness(TypedDict):
    """Accuracies 0..1 on N images, in plain Python types (the body of `robustness.json`)."""

    num_images: int
    clean: float  # of the images as they are
    severities: list[int]
    accuracy: dict[str, list[float]]  # by corruption, at each severity
    mean: list[float]  # over the corruptions, at each severity
    mean_accuracy: float  # over corruptions and severities


def measure(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    clean: float,
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
) -> Robustness:
    """Accuracy under every corruption at every severity, see :mod:`landuse.monitoring.corruptions`.

    Args:
        images: (N, S, S, 3) RGB; may be a memory map.
        labels: (N,).
        clean: accuracy on these images.
        predict: probabilities (n, C) of n images.
    """
    from landuse.monitoring.corruptions import CORRUPTIONS, SEVERITIES  # with Pillow, which reports do without

    def accuracy(batches: Iterator[NDArray[np.uint8]]) -> float:
        predicted = np.concatenate([predict(batch).argmax(axis=1) for batch in batches])
        return float(np.mean(predicted == labels))

    log.info("accuracy by severity of a corruption; %.1f %% of the images as they are", 100 * clean)
    by_name = {}
    for number, (name, corrupt) in enumerate(CORRUPTIONS.items()):
        by_name[name] = [accuracy(corrupted(images, corrupt, severity, number)) for severity in SEVERITIES]
        log.info("%-12s %s", name, _shown(by_name[name]))
    values = np.array(list(by_name.values()))
    log.info("%-12s %s", "mean", _shown(values.mean(axis=0)))
    return {
        "num_images": len(images),
        "clean": clean,
        "severities": list(SEVERITIES),
        "accuracy": by_name,
        "mean": values.mean(axis=0).tolist(),
        "mean_accuracy": float(values.mean()),
    }


def corrupted(
    images: NDArray[np.uint8], corrupt: "Corruption", severity: int, number: int
) -> Iterator[NDArray[np.uint8]]:
    """The images in parts; the draws of one follow those of the part before, so that their size changes nothing."""
    draws = np.random.default_rng((SEED, number, severity))
    step = max(1, AT_ONCE // images[0].nbytes)
    for start in range(0, len(images), step):
        yield corrupt(np.asarray(images[start : start + step]), severity, draws)


def _shown(accuracies: Iterable[float]) -> str:
    return " ".join(f"{100 * accuracy:6.1f} %" for accuracy in accuracies)
