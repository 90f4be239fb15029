"""Dynamic batching: lanes take what waits and have it decoded and answered in one batch by a process of their own.

Nothing waits for a batch to fill: while all lanes are busy images gather, and the next free lane takes its share of
them. A lane is a thread, which waits for its process most of the time.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from landuse.errors import FailureError, UserError
from landuse.monitoring.window import Window
from landuse.serving.artifact import ServedModel
from landuse.serving.logs import event
from landuse.serving.messages import Batch, Load
from landuse.serving.processes import Worker, WorkerLostError
from landuse.serving.refusal import Refusal, busy, unusable

Pixels = NDArray[np.uint8]
Outcome = NDArray[np.float32] | Refusal  # probabilities (C,) of one image, or why there are none

FAILED = Refusal(500, "The image could not be answered.")
# Of an image that has ended two workers, the second one alone.
UNBEARABLE = Refusal(422, "The file took what decodes it more time or memory than there is.", code="unusable_image")
CLOSE_S = 5.0  # for lanes to end, when nothing waits any more


@dataclass(frozen=True)
class Loaded:
    """A model in service, and what belongs to it: they are exchanged together."""

    model: ServedModel
    load: Load  # for workers
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
        self, loaded: Loaded, num_lanes: int, max_batch: int, max_queue: int, longest_s: float,
        watch_share: float = 1.0,
        on_batch: Callable[[int, float, float], None] = lambda size, decoding_s, inference_s: None,
    ) -> None:  # fmt: skip
        """
        Args:
            longest_s: that a batch may take.
            watch_share: of the time that windows may take, above 0; 1: all images are shown to them.
            on_batch: is told the size of every batch, and the seconds for decoding and for the model.
        """
        self._max_batch, self._max_queue, self._longest_s, self._on_batch = max_batch, max_queue, longest_s, on_batch
        self._watch_share, self._next_watch = watch_share, 0.0
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = threading.Event()
        self._workers = [Worker() for _ in range(num_lanes)]
        self.loaded = loaded
        try:
            self.exchange(loaded)
        except BaseException:
            self._end_workers()
            raise
        self._threads = [threading.Thread(target=self._work, args=(one,), daemon=True) for one in self._workers]
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._end_stuck_workers, daemon=True).start()

    def exchange(self, loaded: Loaded) -> None:
        """Take a model into service; requests under way are answered by the one before.

        Raises:
            UserError: it cannot be run; the one before stays.
            FailureError: a worker has ended in it; likewise.
        """
        with ThreadPoolExecutor(len(self._workers)) as executor:
            try:
                problems = list(executor.map(lambda worker: worker.load(loaded.load), self._workers))
            except WorkerLostError as error:
                raise FailureError(f"A worker could not load the model: {error}; above may stand why.") from error
        for problem in problems:
            if problem is not None:
                raise UserError(problem)
        self.loaded = loaded

    @property
    def worker_pids(self) -> list[int]:
        """Of the processes that decode and answer."""
        return [worker.pid for worker in self._workers]

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
        self._end_workers()

    def _end_workers(self) -> None:
        self._is_closed.set()
        for worker in self._workers:
            worker.close()

    def _work(self, worker: Worker) -> None:
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
                self._answer(worker, loaded, [job for job in jobs if job.request.loaded is loaded])

    def _answer(self, worker: Worker, loaded: Loaded, jobs: list[_Job], is_retry: bool = False) -> None:
        """Whatever happens, those who wait are told and the lane goes on."""
        try:
            self._run(worker, loaded, jobs)
        except Exception as error:
            is_lost = isinstance(error, WorkerLostError)
            event("a worker was lost" if is_lost else "images failed", {"reason": str(error)}, logging.ERROR)
            # One image must not spoil the others, and a worker can be lost for other reasons than an image.
            if len(jobs) > 1 or (is_lost and not is_retry):
                for job in jobs:
                    self._answer(worker, loaded, [job], is_retry=True)
                return
            jobs[0].request.outcomes[jobs[0].number] = UNBEARABLE if is_lost else FAILED
        requests: dict[Request, int] = {}
        for job in jobs:
            requests[job.request] = requests.get(job.request, 0) + 1
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_finish, requests)

    def _run(self, worker: Worker, loaded: Loaded, jobs: list[_Job]) -> None:
        asked = []
        for job in jobs:
            images = job.request.images
            if images:  # else it was given up
                asked.append((job, images[job.number]))
        if not asked:
            return
        is_watched = loaded.window is not None and time.monotonic() >= self._next_watch
        batch = Batch(loaded.model.version, [image for _, image in asked], is_watched)
        answered = worker.answer(batch, loaded.load)
        for (job, _), outcome in zip(asked, answered.outcomes, strict=True):
            job.request.outcomes[job.number] = unusable(*outcome) if isinstance(outcome, tuple) else outcome
        if answered.num_answered:
            self._on_batch(answered.num_answered, answered.decoding_s, answered.inference_s)
        if answered.rows is not None and loaded.window is not None:
            loaded.window.keep(answered.rows)
            # Under load a part of the images tells as much, and the others are answered sooner.
            self._next_watch = time.monotonic() + answered.watching_s * (1 / self._watch_share - 1)

    def _end_stuck_workers(self) -> None:
        """An image that takes its worker longer than anybody waits takes nobody else's."""
        while not self._is_closed.wait(1.0):
            for worker in self._workers:
                if worker.end_if_stuck(self._longest_s):
                    event("a worker was stuck", severity=logging.ERROR)


def _finish(requests: dict[Request, int]) -> None:
    for request, answered in requests.items():
        request.finish(answered)
