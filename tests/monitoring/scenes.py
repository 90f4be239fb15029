"""Images and what a model makes of them, drawn from distributions that do not change unless a test says so."""

import numpy as np

from landuse.monitoring.reference import Reference, make_reference

CLASSES, FEATURES, SIDE = 6, 40, 16
Scene = tuple[np.ndarray, np.ndarray, np.ndarray]


def scene(seed: int, n: int, brighter: float = 0.0, shift: float = 0.0, side: int = SIDE) -> Scene:
    """Images (n, side, side, 3), probabilities (n, C) and features (n, D).

    Args:
        brighter: grey levels.
        shift: of all features, in their standard deviations.
    """
    draws = np.random.default_rng(seed)
    light = draws.normal(120 + brighter, 25, (n, 1, 1, 3))
    images = np.clip(light + draws.normal(0, 20, (n, side, side, 3)), 0, 255).astype(np.uint8)
    probabilities = draws.dirichlet(np.full(CLASSES, 0.3), n)
    features = draws.normal(shift, 1, (n, FEATURES)) * np.linspace(3, 1, FEATURES)
    return images, probabilities, features.astype(np.float32)


def reference(seed: int = 0, n: int = 300) -> Reference:
    """Of an unchanged scene."""
    return make_reference(*scene(seed, n))
