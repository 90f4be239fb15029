"""Dynamic batching: lanes are threads that take what waits, decode it, and let the model answer it in one batch.

Nothing waits for a batch to fill: while all lanes are busy images gather, and the next free lane takes its share of
them. Decoding and arithmetic release Python's lock, so the lanes use as many cores as there are lanes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from landuse.data.decode import Limits, UnusableImageError, decode_square
from landuse.serving.engine import Answers, Engine
from landuse.serving.refusal import Refusal, busy

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Outcome = NDArray[np.float32] | Refusal  # probabilities (C,) of one image, or why there are none


FAILED = Refusal(500, "The image could not be answered.")


class Watcher(Protocol):
    """Is shown what the model answered."""

    def add(self, images: Pixels, probabilities: NDArray[np.float32], features: NDArray[np.float32]) -> None:
        """Images (N, S, S, 3), probabilities (N, C), features (N, D)."""


@dataclass(frozen=True)
class Loaded:
    """A model in service, and what belongs to it: they are exchanged together."""

    engine: Engine
    watcher: Watcher | None


class Request:
    """Images that are answered together; in the event loop of whoever waits for it."""

    __slots__ = ("deadline", "done", "loaded", "outcomes", "waiting")

    def __init__(self, num_images: int, deadline: float) -> None:
        self.outcomes: list[Outcome | None] = [None] * num_images
        self.waiting = num_images
        self.deadline = deadline  # of time.monotonic()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.loaded: Loaded | None = None  # which answered last

    def finish(self, answered: int) -> None:
        """Called in the event loop alone, so that no two lanes count at once."""
        self.waiting -= answered
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


@dataclass(frozen=True, slots=True)
class _Job:
    request: Request
    number: int
    image: bytes | Pixels  # a file, or (S, S, 3)


class Lanes:
    """A bounded queue of images and the threads that empty it."""

    def __init__(
        self, loaded: Loaded, num_lanes: int, max_batch: int, max_queue: int, limits: Limits,
        on_batch: Callable[[int, float, float], None] = lambda size, decoding_s, inference_s: None,
    ) -> None:  # fmt: skip
        """
        Args:
            limits: of an image's file.
            on_batch: is told the size of every batch, and the seconds for decoding and for the model.
        """
        self.loaded = loaded
        self._max_batch, self._max_queue, self._limits, self._on_batch = max_batch, max_queue, limits, on_batch
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [threading.Thread(target=self._work, name=f"lane-{i}", daemon=True) for i in range(num_lanes)]
        for thread in self._threads:
            thread.start()

    @property
    def num_waiting(self) -> int:
        """Images in the queue."""
        return self._queue.qsize()

    @property
    def is_full(self) -> bool:
        """Whether a further request would be refused."""
        return self._queue.qsize() >= self._max_queue

    async def answer(self, images: Sequence[bytes | Pixels], deadline_s: float) -> tuple[list[Outcome], Loaded]:
        """An outcome per image, and the model that answered.

        Args:
            images: files, or pixels (S, S, 3) uint8 of the model's size.
            deadline_s: from now; what has not been begun by then is given up.

        Raises:
            Refusal: the queue is full, or the deadline has passed.
        """
        if self._queue.qsize() + len(images) > self._max_queue:
            raise busy()
        self._loop = asyncio.get_running_loop()
        request = Request(len(images), time.monotonic() + deadline_s)
        for number, image in enumerate(images):
            self._queue.put(_Job(request, number, image))
        await request.done
        assert request.loaded is not None
        return [outcome for outcome in request.outcomes if outcome is not None], request.loaded

    def close(self) -> None:
        """End the threads, after what waits is answered."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            jobs = [job]
            share = min(self._max_batch, -(-(self._queue.qsize() + 1) // len(self._threads)))
            try:
                while len(jobs) < share:
                    if (job := self._queue.get_nowait()) is None:
                        self._queue.put(None)  # which this thread gets in its next turn
                        break
                    jobs.append(job)
            except Empty:
                pass
            self._answer(jobs)

    def _answer(self, jobs: list[_Job]) -> None:
        loaded, outcomes = self.loaded, dict[int, Outcome]()
        try:
            self._run(loaded, jobs, outcomes)
        except Exception:  # whatever it is, those who wait must be told and the lane must go on
            log.exception("a batch failed")
        requests: dict[Request, int] = {}
        for i, job in enumerate(jobs):
            job.request.outcomes[job.number] = outcomes.get(i, FAILED)
            job.request.loaded = loaded
            requests[job.request] = requests.get(job.request, 0) + 1
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_finish, requests)

    def _run(self, loaded: Loaded, jobs: list[_Job], outcomes: dict[int, Outcome]) -> None:
        begun = time.perf_counter()
        decoded: dict[int, Pixels] = {}
        for i, job in enumerate(jobs):
            try:
                decoded[i] = self._pixels(loaded, job)
            except Refusal as refusal:
                outcomes[i] = refusal
        if not decoded:
            return
        images = np.stack(list(decoded.values()))
        between = time.perf_counter()
        answers: Answers = loaded.engine(images)
        self._on_batch(len(images), between - begun, time.perf_counter() - between)
        outcomes.update(zip(decoded, answers.probabilities, strict=True))
        if loaded.watcher is not None:
            loaded.watcher.add(images, answers.probabilities, answers.features)

    def _pixels(self, loaded: Loaded, job: _Job) -> Pixels:
        model = loaded.engine.model
        if time.monotonic() > job.request.deadline:
            raise Refusal(503, "The image waited for longer than an answer may take: try again in a second.", 1)
        if isinstance(job.image, np.ndarray):
            if job.image.shape != (model.image_size, model.image_size, 3):
                size = model.image_size
                raise Refusal(400, f"The model takes images of the shape [{size}, {size}, 3].")
            return job.image
        try:
            return decode_square(job.image, "The file", model.image_size, model.value_range, self._limits)
        except UnusableImageError as error:
            raise Refusal(error.status, str(error)) from error
        except MemoryError:
            raise Refusal(503, "There is no memory left for this image: try again in a second.", 1) from None


def _finish(requests: dict[Request, int]) -> None:
    for request, answered in requests.items():
        request.finish(answered)
