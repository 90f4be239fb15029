"""An engine whose images are remembered, to be compared with those that its model was validated on."""

import numpy as np
from numpy.typing import NDArray

from landuse.monitoring.window import Window
from landuse.serving.engine import Answers, Engine


class WatchedEngine(Engine):
    """Shows a window all images that it answers for."""

    window: Window | None = None  # None: while it warms up, and until there is one

    def __call__(self, images: NDArray[np.uint8]) -> Answers:
        answers = super().__call__(images)
        if self.window is not None:
            self.window.add(images, answers.probabilities, answers.features)
        return answers
