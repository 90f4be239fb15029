"""A process that decodes images and lets a model answer them: ``python -m landuse.serving.worker``, a service's child.

Decoding and arithmetic in processes of their own leave Python's lock to the event loop, and what an image does to the
libraries that decode it happens to a process that can be replaced. Messages come on stdin and go to stdout; the end of
stdin ends it.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from landuse.allocator import return_freed_memory
from landuse.data.decode import UnusableImageError, decode_square
from landuse.errors import UserError
from landuse.serving.engine import Engine
from landuse.serving.messages import Answered, Batch, Image, Load, receive, send

MOST_MODELS = 2  # at once: the one in service and, while requests of it are under way, the one before
NO_MEMORY = (503, "There is no memory left for this image: try again in a second.")


class _Models:
    """The models of this process by their versions, the newest last."""

    def __init__(self) -> None:
        self._models: dict[str, tuple[Engine, Load]] = {}

    def load(self, asked: Load) -> str | None:
        version = asked.model.version
        try:
            engine = Engine.of(asked.model, asked.graph, asked.num_threads, asked.max_batch)
            if asked.reference is not None and len(asked.reference.centre) != engine.num_features:
                raise UserError(f"{asked.model.folder}: its reference is of a model with other features.")
        except UserError as error:
            return str(error)
        self._models.pop(version, None)
        self._models[version] = (engine, asked._replace(graph=b""))
        while len(self._models) > MOST_MODELS:
            del self._models[next(iter(self._models))]
        return None

    def answer(self, batch: Batch) -> Answered | None:
        """None: the model is not loaded."""
        if batch.version not in self._models:
            return None
        engine, asked = self._models[batch.version]
        begun = time.perf_counter()
        outcomes = [_pixels(image, asked) for image in batch.images]
        places = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, tuple)]
        decoded, rows = time.perf_counter(), None
        answered = watched = decoded
        if places:
            images = np.stack([outcomes[i] for i in places])
            answers = engine(images)
            answered = watched = time.perf_counter()
            for i, probabilities in zip(places, answers.probabilities, strict=True):
                outcomes[i] = probabilities
            if batch.is_watched and asked.reference is not None:
                rows = asked.reference.rows_of(images, answers.probabilities, answers.features)
                watched = time.perf_counter()
        return Answered(outcomes, rows, len(places), decoded - begun, answered - decoded, watched - answered)


def _pixels(image: Image, asked: Load) -> Any:
    """Pixels (S, S, 3), or a status and the reason why there are none."""
    if isinstance(image, np.ndarray):
        return image
    try:
        return decode_square(image, "The file", asked.model.image_size, asked.model.value_range, asked.limits)
    except UnusableImageError as error:
        return error.status, str(error)
    except MemoryError:
        return NO_MEMORY


def main() -> None:
    """Answer until the service has ended."""
    models = _Models()
    run(lambda message: models.load(message) if isinstance(message, Load) else models.answer(message))


def run(handle: Callable[[Any], Any]) -> None:
    """Be a service's child: answer each message on stdin with what ``handle`` makes of it, or with its traceback."""
    with contextlib.suppress(BrokenPipeError):
        _answer_all(handle)
    os._exit(0)  # or Python would try to write what could not be


def _answer_all(handle: Callable[[Any], Any]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # which the whole group is sent; the service ends its workers
        signal.signal(number, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the messages
    return_freed_memory()
    send(sink, None)  # it is there
    while True:
        try:
            message = receive(source)
        except EOFError:
            return
        try:
            answer = handle(message)
        except Exception:
            answer = traceback.format_exc()
        send(sink, answer)


if __name__ == "__main__":
    main()
