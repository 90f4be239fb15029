"""Dynamic batching: lanes take what waits and have it decoded and answered in one batch by a process of their own.

Nothing waits for a batch to fill: while all lanes are busy images gather, and the next free lane takes its share of
them. All of this happens in the event loop; threads would contend with it for Python's lock.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from landuse.errors import FailureError, UserError
from landuse.monitoring.window import Window
from landuse.serving.artifact import ServedModel
from landuse.serving.logs import event
from landuse.serving.messages import Batch, Load, packed
from landuse.serving.processes import MOST_TRIES, Worker, WorkerLostError
from landuse.serving.refusal import Refusal, busy, unusable

Pixels = NDArray[np.uint8]
Outcome = NDArray[np.float32] | Refusal  # probabilities (C,) of one image, or why there are none

FAILED = Refusal(500, "The image could not be answered.")
# Of an image that has ended two workers, the second one alone.
UNBEARABLE = Refusal(422, "The file took what decodes it more time or memory than there is.", code="unusable_image")
AHEAD = 1  # batches that a worker is given besides the one that it is at
UNAVAILABLE = Refusal(503, "There is nothing that could answer the image: try again in a second.", 1)
PAUSE_S = 0.5  # before a process that could not start is started again
CLOSE_S = 0.5  # for lanes to end, when nobody waits any more


@dataclass(frozen=True)
class Loaded:
    """A model in service, and what belongs to it: they are exchanged together."""

    model: ServedModel
    load: Load  # for workers
    window: Window | None  # of the images answered; None: drift is not watched
    samples: Mapping[str, bytes] = field(default_factory=dict)  # PNG files to try, by name


class Request:
    """Images that are answered together, all by one model."""

    __slots__ = ("done", "images", "is_watched", "loaded", "outcomes", "waiting")

    def __init__(self, images: Sequence[bytes | Pixels], loaded: Loaded, is_watched: bool) -> None:
        self.images = images  # none: nobody waits any more
        self.loaded, self.is_watched = loaded, is_watched
        self.outcomes: list[Outcome] = [FAILED] * len(images)
        self.waiting = len(images)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish_one(self) -> None:
        """One of the images has its outcome."""
        self.waiting -= 1
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


@dataclass(frozen=True, slots=True)
class _Job:
    request: Request
    number: int  # of the image


class Lanes:
    """A bounded queue of images and the lanes that empty it."""

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
        self._max_batch, self._max_queue, self._on_batch = max_batch, max_queue, on_batch
        self._watch_share, self._next_watch = watch_share, 0.0
        self._queue: deque[_Job] = deque()
        self._workers = [Worker(longest_s) for _ in range(num_lanes)]
        self._tasks: set[asyncio.Task[None]] = set()  # one for each batch under way
        self.loaded = loaded

    async def start(self) -> None:
        """Start the workers and have them load the model.

        Raises:
            UserError: it cannot be run.
            FailureError: a worker has ended in it.
        """
        try:
            # Processes start while the model is packed, once for all of them.
            packing = asyncio.create_task(asyncio.to_thread(packed, self.loaded.load))
            await asyncio.gather(*(worker.start() for worker in self._workers))
            message = await packing
            _require_loaded(await asyncio.gather(*(worker.load(message) for worker in self._workers)))
        except WorkerLostError as error:
            raise FailureError(f"A worker could not load the model: {error}; above may stand why.") from error

    async def exchange(self, loaded: Loaded) -> None:
        """Take a model into service; requests under way are answered by the one before.

        Raises:
            UserError: it cannot be run; the one before stays.
            FailureError: a worker has ended in it; likewise.
        """
        message = await asyncio.to_thread(packed, loaded.load)
        for worker in self._workers:  # one after the other, so that the others answer meanwhile
            worker.num_asked += 1
            try:
                _require_loaded([await worker.load(message)])
            except WorkerLostError as error:
                raise FailureError(f"A worker could not load the model: {error}; above may stand why.") from error
            finally:
                worker.num_asked -= 1
                self._hand_out()
        self.loaded = loaded

    @property
    def num_lanes(self) -> int:
        """Batches that are answered at once."""
        return len(self._workers)

    @property
    def worker_pids(self) -> list[int]:
        """Of the processes that decode and answer."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    @property
    def num_waiting(self) -> int:
        """Images in the queue."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether a further request would be refused."""
        return len(self._queue) >= self._max_queue

    async def answer(
        self, images: Sequence[bytes | Pixels], deadline_s: float, loaded: Loaded | None = None, is_watched: bool = True
    ) -> tuple[list[Outcome], Loaded]:
        """An outcome per image, and the model that answered all of them.

        Args:
            images: files, or pixels (S, S, 3) uint8 of the model's size.
            deadline_s: from now.
            loaded: which model; None: the one in service.
            is_watched: whether drift may be judged by them.

        Raises:
            Refusal: the queue is full, or the deadline has passed.
        """
        if len(self._queue) + len(images) > self._max_queue:
            raise busy()
        request = Request(images, loaded or self.loaded, is_watched)
        self._queue.extend(_Job(request, number) for number in range(len(images)))
        self._hand_out()
        try:
            async with asyncio.timeout(deadline_s):
                await request.done
        except TimeoutError:
            raise Refusal(503, "The image waited for longer than an answer may take: try again.", 1) from None
        finally:
            request.images = ()  # what still waits is passed over, and freed
        return request.outcomes, request.loaded

    async def close(self) -> None:
        """End the lanes, after what waits is answered; one that hangs is ended with its worker."""
        end = time.monotonic() + CLOSE_S
        while self._tasks and (left := end - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        self._queue.clear()
        for task in self._tasks:  # before their workers end, or they would ask others
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in self._workers))

    def _hand_out(self) -> None:
        """Give the workers that have least to do their shares of what waits."""
        while self._queue:
            worker = min(self._workers, key=lambda worker: worker.num_asked)
            # A whole batch is given ahead, so that no worker waits for a busy event loop; fewer may wait for others.
            most_asked = AHEAD if len(self._queue) >= self._max_batch else 0
            if worker.num_asked > most_asked:
                return
            size = min(self._max_batch, -(-len(self._queue) // len(self._workers)))
            jobs = [self._queue.popleft() for _ in range(size)]
            worker.num_asked += 1
            task = asyncio.create_task(self._work(worker, jobs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, worker: Worker, jobs: list[_Job]) -> None:
        try:
            for loaded in {id(job.request.loaded): job.request.loaded for job in jobs}.values():
                await self._answer(worker, loaded, [job for job in jobs if job.request.loaded is loaded])
        finally:
            worker.num_asked -= 1
            self._hand_out()

    async def _answer(self, worker: Worker, loaded: Loaded, jobs: list[_Job], is_retry: bool = False) -> None:
        """Whatever happens, those who wait are told and the lane goes on."""
        outcome = UNAVAILABLE
        for _ in range(MOST_TRIES):
            try:
                await self._run(worker, loaded, jobs)
                break
            except WorkerLostError as error:
                event("a worker was lost", {"reason": str(error)}, logging.ERROR)
                if not error.was_at_it:
                    await asyncio.sleep(PAUSE_S)
                    continue
                outcome, is_hopeless = UNBEARABLE, is_retry  # it can be lost for other reasons than an image
            except Exception as error:
                event("images failed", {"reason": str(error)}, logging.ERROR)
                outcome, is_hopeless = FAILED, True
            if len(jobs) > 1 or not is_hopeless:  # one image must not spoil the others
                for job in jobs:
                    await self._answer(worker, loaded, [job], is_retry=True)
                return
            jobs[0].request.outcomes[jobs[0].number] = outcome
            break
        else:
            for job in jobs:
                job.request.outcomes[job.number] = outcome
        for job in jobs:
            job.request.finish_one()

    async def _run(self, worker: Worker, loaded: Loaded, jobs: list[_Job]) -> None:
        asked = []
        for job in jobs:
            images = job.request.images
            if images:  # else it was given up
                asked.append((job, images[job.number]))
        if not asked:
            return
        is_watched = loaded.window is not None and time.monotonic() >= self._next_watch
        is_watched = is_watched and all(job.request.is_watched for job, _ in asked)
        batch = Batch(loaded.model.version, [image for _, image in asked], is_watched)
        answered = await worker.answer(batch, loaded.load)
        for (job, _), outcome in zip(asked, answered.outcomes, strict=True):
            job.request.outcomes[job.number] = unusable(*outcome) if isinstance(outcome, tuple) else outcome
        if answered.num_answered:
            self._on_batch(answered.num_answered, answered.decoding_s, answered.inference_s)
        if answered.rows is not None and loaded.window is not None:
            loaded.window.keep(answered.rows)
            # Under load a part of the images tells as much, and the others are answered sooner.
            self._next_watch = time.monotonic() + answered.watching_s * (1 / self._watch_share - 1)


def _require_loaded(problems: Sequence[str | None]) -> None:
    for problem in problems:
        if problem is not None:
            raise UserError(problem)
