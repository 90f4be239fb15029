"""A scene through the model, chunk by chunk, on all cores.

A thread of its own reads ahead (:mod:`landuse.mapping.bands`); each of the others takes a chunk, cuts and resizes its
windows and lets the model answer them in the same thread, as :mod:`landuse.serving.bulk` does.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from landuse.mapping.bands import Task, Tasks
from landuse.mapping.parts import Answer, OpenPart
from landuse.mapping.plan import Chunk, Grid
from landuse.mapping.preview import Preview
from landuse.mapping.scene import Scene
from landuse.mapping.tiles import cut, shares_of_data
from landuse.serving.artifact import ServedModel

NUM_SYMMETRIES = 8  # of the square; aerial images have no up
WAIT_S = 0.5  # between looks at signals


class Classifier(Protocol):
    """What answers; several threads ask it at once."""

    @property
    def model(self) -> ServedModel:
        """Its description."""

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda, cuda:N or mps."""

    @property
    def batch_size(self) -> int:
        """How many images it is to be asked about at once, at most."""

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, C) of images (N, S, S, 3) uint8 RGB."""


def classify(
    scene: Scene,
    grid: Grid,
    classifier: Classifier,
    part: OpenPart,
    chunks: Sequence[Chunk],
    num_threads: int,
    symmetries: bool,
    on_chunk: Callable[[Chunk], None],
) -> None:
    """Answer these chunks and keep the answers; what is done stays when it ends early.

    Args:
        on_chunk: is told each chunk that is done, in any thread.

    Raises:
        UserError: the scene cannot be read, or the model gives no numbers.
        OSError: the answers cannot be written.
    """
    num_threads = min(num_threads, len(chunks))
    tasks = Tasks(scene, grid, chunks, num_threads)
    asked, preview = _Stoppable(classifier, tasks.is_closed), Preview(grid)

    def work() -> None:
        with suppress(_StoppedError):
            while (task := tasks.take()) is not None:
                shown = preview.shrink(task.chunk, task.pixels.colours)
                part.write(task.chunk, Answer(answer(task, grid, asked, symmetries), shown))
                on_chunk(task.chunk)
                del task  # with it goes the last hold on the band

    executor = ThreadPoolExecutor(num_threads + 1)
    try:
        running = {executor.submit(tasks.read), *(executor.submit(work) for _ in range(num_threads))}
        while running:
            done, running = wait(running, timeout=WAIT_S, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
    finally:
        tasks.is_closed.set()
        executor.shutdown()


class _StoppedError(Exception):
    """Nobody waits for the answer any more."""


class _Stoppable:
    """A classifier that answers no further batch once it is closed: a chunk of a large model may take a minute."""

    def __init__(self, classifier: Classifier, is_closed: threading.Event) -> None:
        self._classifier, self._is_closed = classifier, is_closed
        self.model, self.device, self.batch_size = classifier.model, classifier.device, classifier.batch_size

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._is_closed.is_set():
            raise _StoppedError
        return self._classifier.probabilities(images)


def answer(task: Task, grid: Grid, classifier: Classifier, symmetries: bool) -> NDArray[np.float32]:
    """(windows, C + 1) of one chunk: probabilities, then the share of data; where that is 0 nothing was asked.

    Batches are part of what is computed, since arithmetic may depend on them in the last digit: they never reach over
    chunks, so the same chunk gives the same answer in every process.
    """
    model, chunk, (pixels, valid) = classifier.model, task.chunk, task.pixels
    shares = shares_of_data(grid, chunk, valid)
    wanted = shares > 0
    answers = np.zeros((chunk.num_windows, len(model.classes) + 1), np.float32)
    answers[:, -1] = shares.ravel()
    if wanted.any():
        tiles = cut(grid, chunk, pixels, valid, wanted, model.image_size)
        ask = _symmetric if symmetries else _plain
        size = classifier.batch_size
        batches = [tiles[start : start + size] for start in range(0, len(tiles), size)]
        answers[wanted.ravel(), :-1] = np.concatenate([ask(classifier, batch) for batch in batches])
    return answers


def _plain(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return classifier.probabilities(images)


def _symmetric(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean over the eight symmetries of the square."""
    total = np.zeros((len(images), len(classifier.model.classes)))
    for turns in range(4):
        turned = np.rot90(images, turns, axes=(1, 2))
        for view in (turned, turned[:, :, ::-1]):
            total += classifier.probabilities(np.ascontiguousarray(view))
    return (total / NUM_SYMMETRIES).astype(np.float32)
