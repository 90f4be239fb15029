"""What a person sees of a training: a progress bar on a terminal, one plain line an epoch elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import Any

from landuse.progress import Bar

log = logging.getLogger("landuse")


class Console:
    """Progress of a training on stderr. Use as a context manager."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self._bar = _ProgressBar(num_epochs) if sys.stderr.isatty() else None

    def __enter__(self) -> "Console":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        if self._bar is not None:
            self._bar.advance(epoch, step, num_steps, num_images, self._num_epochs)

    def epoch(self, record: dict[str, Any]) -> None:
        log.info(
            "epoch %*d/%d: loss %.3f, val loss %.3f, val accuracy %.4f, %.0f images/s, %.0f s",
            len(str(self._num_epochs)), record["epoch"] + 1, self._num_epochs, record["train/loss"], record["val/loss"],
            record["val/accuracy"], record["images_per_second"], record["seconds"],
        )  # fmt: skip


class _ProgressBar:
    """The whole training as one bar, with images/s of the epoch and time left."""

    def __init__(self, num_epochs: int) -> None:
        self._bar = Bar(
            "epoch {task.fields[epoch]}/{task.fields[num_epochs]}",
            "{task.percentage:>3.0f} %  {task.fields[rate]:.0f} images/s  time left",
            epoch=1, num_epochs=num_epochs, rate=0.0,
        )  # fmt: skip
        self._epoch, self._epoch_start, self._images_at_start = -1, 0.0, 0

    def advance(self, epoch: int, step: int, num_steps: int, num_images: int, num_epochs: int) -> None:
        now = time.perf_counter()
        if epoch != self._epoch:
            self._epoch, self._epoch_start, self._images_at_start = epoch, now, num_images
        elapsed = now - self._epoch_start
        rate = (num_images - self._images_at_start) / elapsed if elapsed > 0 else 0.0
        self._bar.update(epoch * num_steps + step, num_epochs * num_steps, epoch=epoch + 1, rate=rate)

    def close(self) -> None:
        self._bar.close()
