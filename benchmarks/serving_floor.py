"""``landuse.serve`` that neither decodes nor classifies: the floor that benchmarks.serving compares with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from landuse import serve
from landuse.serving import service
from landuse.serving.lanes import Loaded


class ConstantLanes:
    """In place of :class:`landuse.serving.lanes.Lanes`."""

    num_waiting, is_full, worker_pids = 0, False, ()

    def __init__(self, loaded: Loaded, *_: Any) -> None:
        self.loaded = loaded
        num_classes = len(loaded.model.classes)
        self._outcome = np.full(num_classes, 1 / num_classes, np.float32)

    async def start(self) -> None:
        """Nothing."""

    async def answer(self, images: Sequence[object], *_: Any) -> tuple[list[Any], Loaded]:
        """The same for every image."""
        return [self._outcome] * len(images), self.loaded

    async def close(self) -> None:
        """Nothing."""


if __name__ == "__main__":
    service.Lanes = ConstantLanes  # type: ignore[misc, assignment]
    serve.main()
