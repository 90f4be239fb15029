"""Dynamic batching: lanes are threads that take what waits, decode it, and let the model answer it in one batch.

Nothing waits for a batch to fill: while all lanes are busy images gather, and the next free lane takes its share of
them. Decoding and arithmetic release Python's lock, so the lanes use as many cores as there are lanes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from landuse.data.decode import UnusableImageError, decode_square
from landuse.data.limits import Limits
from landuse.monitoring.window import Window
from landuse.serving.engine import Answers, Engine
from landuse.serving.refusal import Refusal, busy, unusable

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Outcome = NDArray[np.float32] | Refusal  # probabilities (C,) of one image, or why there are none

FAILED = Refusal(500, "The image could not be answered.")
NO_MEMORY = Refusal(503, "There is no memory left for this image: try again in a second.", 1)
CLOSE_S = 5.0  # for lanes to end, when nothing waits any more


@dataclass(frozen=True)
class Loaded:
    """A model in service, and what belongs to it: they are exchanged together."""

    engine: Engine
    window: Window | None  # of the images answered; None: drift is not watched
    samples: Mapping[str, bytes] = field(default_factory=dict)  # PNG files to try, by name


class Request:
    """Images that are answered together, all by one model."""

    __slots__ = ("done", "images", "loaded", "outcomes", "waiting")

    def __init__(self, images: Sequence[bytes | Pixels], loaded: Loaded) -> None:
        self.images = images  # none: nobody waits any more
        self.loaded = loaded
        self.outcomes: list[Outcome] = [FAILED] * len(images)
        self.waiting = len(images)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(self, answered: int) -> None:
        """Called in the event loop alone, so that no two lanes count at once."""
        self.waiting -= answered
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


@dataclass(frozen=True, slots=True)
class _Job:
    request: Request
    number: int  # of the image


class Lanes:
    """A bounded queue of images and the threads that empty it."""

    def __init__(
        self, loaded: Loaded, num_lanes: int, max_batch: int, max_queue: int, limits: Limits,
        watch_share: float = 1.0,
        on_batch: Callable[[int, float, float], None] = lambda size, decoding_s, inference_s: None,
    ) -> None:  # fmt: skip
        """
        Args:
            limits: of an image's file.
            watch_share: of the time that windows may take, above 0; 1: all images are shown to them.
            on_batch: is told the size of every batch, and the seconds for decoding and for the model.
        """
        self.loaded = loaded
        self._max_batch, self._max_queue, self._limits, self._on_batch = max_batch, max_queue, limits, on_batch
        self._watch_share, self._next_watch = watch_share, 0.0
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

    async def answer(
        self, images: Sequence[bytes | Pixels], deadline_s: float, loaded: Loaded | None = None
    ) -> tuple[list[Outcome], Loaded]:
        """An outcome per image, and the model that answered all of them.

        Args:
            images: files, or pixels (S, S, 3) uint8 of the model's size.
            deadline_s: from now.
            loaded: which model; None: the one in service.

        Raises:
            Refusal: the queue is full, or the deadline has passed.
        """
        if self._queue.qsize() + len(images) > self._max_queue:
            raise busy()
        self._loop = asyncio.get_running_loop()
        request = Request(images, loaded or self.loaded)
        for number in range(len(images)):
            self._queue.put(_Job(request, number))
        try:
            async with asyncio.timeout(deadline_s):
                await request.done
        except TimeoutError:
            raise Refusal(503, "The image waited for longer than an answer may take: try again.", 1) from None
        finally:
            request.images = ()  # what still waits is passed over, and freed
        return request.outcomes, request.loaded

    def close(self) -> None:
        """End the threads, after what waits is answered; a lane that hangs is left behind."""
        for _ in self._threads:
            self._queue.put(None)
        end = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

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
            for loaded in {id(job.request.loaded): job.request.loaded for job in jobs}.values():
                self._answer(loaded, [job for job in jobs if job.request.loaded is loaded])

    def _answer(self, loaded: Loaded, jobs: list[_Job]) -> None:
        """Whatever happens, those who wait are told and the lane goes on."""
        try:
            self._run(loaded, jobs)
        except Exception as error:
            if len(jobs) > 1:  # one image must not spoil the others
                for job in jobs:
                    self._answer(loaded, [job])
                return
            log.exception("an image failed")
            jobs[0].request.outcomes[jobs[0].number] = NO_MEMORY if isinstance(error, MemoryError) else FAILED
        requests: dict[Request, int] = {}
        for job in jobs:
            requests[job.request] = requests.get(job.request, 0) + 1
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_finish, requests)

    def _run(self, loaded: Loaded, jobs: list[_Job]) -> None:
        begun = time.perf_counter()
        decoded: list[tuple[_Job, Pixels]] = []
        for job in jobs:
            files = job.request.images
            if not files:  # given up
                continue
            try:
                decoded.append((job, self._pixels(loaded, files[job.number])))
            except Refusal as refusal:
                job.request.outcomes[job.number] = refusal
        if not decoded:
            return
        images = np.stack([pixels for _, pixels in decoded])
        between = time.perf_counter()
        answers = loaded.engine(images)
        self._on_batch(len(images), between - begun, time.perf_counter() - between)
        for (job, _), probabilities in zip(decoded, answers.probabilities, strict=True):
            job.request.outcomes[job.number] = probabilities
        self._watch(loaded, images, answers)

    def _watch(self, loaded: Loaded, images: Pixels, answers: Answers) -> None:
        """Show the window what was answered, as long as that takes no more than its share of the time.

        Statistics are many short steps under Python's lock, which all lanes and the event loop wait for. Under load a
        part of the images tells as much.
        """
        started = time.perf_counter()
        if loaded.window is None or started < self._next_watch:
            return
        loaded.window.add(images, answers.probabilities, answers.features)
        ended = time.perf_counter()
        self._next_watch = ended + (ended - started) * (1 / self._watch_share - 1)

    def _pixels(self, loaded: Loaded, image: bytes | Pixels) -> Pixels:
        if isinstance(image, np.ndarray):
            return image
        model = loaded.engine.model
        try:
            return decode_square(image, "The file", model.image_size, model.value_range, self._limits)
        except UnusableImageError as error:
            raise unusable(error.status, str(error)) from error
        except MemoryError:
            raise NO_MEMORY from None


def _finish(requests: dict[Request, int]) -> None:
    for request, answered in requests.items():
        request.finish(answered)
