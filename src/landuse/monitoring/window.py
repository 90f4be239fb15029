"""The newest images that a model has answered for, and whether they drift."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.monitoring.detect import compare
from landuse.monitoring.reference import Reference, Rows


class Window:
    """A bounded memory of the newest images; any number of threads may add and ask."""

    def __init__(self, reference: Reference, size: int, min_images: int, alpha: float) -> None:
        """
        Args:
            size: images that are kept, the newest.
            min_images, alpha: as of :func:`landuse.monitoring.detect.compare`.
        """
        self._reference, self._size, self._min_images, self._alpha = reference, size, min_images, alpha
        self._kept: list[NDArray[Any]] = [np.empty((size, *one.shape[1:]), one.dtype) for one in reference.rows]
        self._num_added, self._adding = 0, threading.Lock()
        self._result: dict[str, Any] = {}
        self._num_compared, self._asking = -1, threading.Lock()

    def add(
        self, images: NDArray[np.uint8], probabilities: NDArray[np.floating], features: NDArray[np.float32]
    ) -> None:
        """Remember N images (N, S, S, 3) with their probabilities (N, C) and features (N, D)."""
        self.keep(self._reference.rows_of(images, probabilities, features))

    def keep(self, rows: Rows) -> None:
        """Remember images by their rows."""
        num_rows = len(rows.confidence)
        with self._adding:
            end = self._num_added + num_rows
            places = np.arange(max(self._num_added, end - self._size), end) % self._size
            for column, kept in enumerate(self._kept):
                kept[places] = rows[column][-len(places) :]
            self._num_added = end

    def result(self) -> dict[str, Any]:
        """What :func:`landuse.monitoring.detect.compare` says of the images remembered, and the window's size.

        It is computed when it is asked for and images have been added since.
        """
        with self._asking:
            num_added, rows = self._snapshot()
            if num_added != self._num_compared:
                result = compare(self._reference, rows, self._alpha, self._min_images)
                self._result, self._num_compared = result | {"window": self._size}, num_added
            return self._result

    def rows(self) -> Rows:
        """What is remembered, in no particular order."""
        return self._snapshot()[1]

    def _snapshot(self) -> tuple[int, Rows]:
        """Images that were ever added, and the rows that are kept of them."""
        with self._adding:
            return self._num_added, Rows(*[kept[: self._num_added].copy() for kept in self._kept])
