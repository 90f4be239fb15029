"""The service's side of its workers."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from landuse.serving.messages import Answered, Batch, Load, packed, receive_from

START_S = 60.0  # for a process to start, and for it to load a model
GRACE_S = 1.0  # for a process to end by itself
MOST_TRIES = 3  # of what failed for reasons of others


class WorkerLostError(Exception):
    """The worker's process has ended, or was ended because it took too long."""

    def __init__(self, problem: str, was_at_it: bool) -> None:
        """
        Args:
            was_at_it: whether it was at the message that it was asked; else at one before, or had not started.
        """
        super().__init__(problem)
        self.was_at_it = was_at_it


class Worker:
    """A process that answers messages in their order; started anew when it has ended."""

    def __init__(self, longest_s: float, module: str = "landuse.serving.worker") -> None:
        """
        Args:
            longest_s: that a batch may take; an image that takes its worker longer than anybody waits takes nobody
                else's.
            module: what the process runs.
        """
        self._longest_s, self._module = longest_s, module
        self._starting, self._answering = asyncio.Lock(), asyncio.Lock()
        self._process: Process | None = None
        self._has_started = self._is_closed = False
        self.num_asked = 0  # batches that are its own; counted by who gives them out

    @property
    def pid(self) -> int | None:
        """Of the process that there is now, if there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> Process:
        """The process, as soon as it is there.

        Raises:
            WorkerLostError: it has ended.
        """
        async with self._starting:
            if self._process is not None and self._has_started:
                return self._process
            if self._is_closed:
                raise WorkerLostError("it is to end", was_at_it=False)
            line = [sys.executable, "-m", self._module]
            process = self._process = await asyncio.create_subprocess_exec(*line, stdin=PIPE, stdout=PIPE)
            assert process.stdout is not None
            try:
                async with asyncio.timeout(START_S):
                    await receive_from(process.stdout)  # that it is there
            except (EOFError, OSError) as error:  # TimeoutError is an OSError
                await self._lose(process)
                raise WorkerLostError(f"it did not start, status {process.returncode}", was_at_it=False) from error
            self._has_started = True
            return process

    async def load(self, message: bytes) -> str | None:
        """Have a model loaded; why it could not be, or None.

        Args:
            message: :class:`Load`, packed.

        Raises:
            WorkerLostError: the process has ended.
        """
        for tries_left in reversed(range(MOST_TRIES)):
            try:
                problem = await self._ask(message, START_S)
            except WorkerLostError as error:
                if error.was_at_it or not tries_left:
                    raise
            else:
                return problem if problem is None else str(problem)
        raise AssertionError

    async def answer(self, batch: Batch, load: Load) -> Answered:
        """Have a batch answered.

        Args:
            load: of its model, in case that the process has lost it.

        Raises:
            WorkerLostError: the process has ended.
            RuntimeError: it failed; the message is its traceback.
        """
        message, answer = packed(batch), None
        for _ in range(MOST_TRIES):
            answer = await self._ask(message, self._longest_s)
            if answer is not None:
                break
            try:
                if problem := await self._ask(packed(load), START_S):
                    raise RuntimeError(problem)
            except WorkerLostError as error:
                raise WorkerLostError(f"{error}, while it loaded the model", was_at_it=False) from error
        if not isinstance(answer, Answered):
            raise RuntimeError(answer or "it has lost the model again and again")
        return answer

    async def ask(self, message: Any) -> Any:
        """The answer to one message, whatever it is.

        Raises:
            WorkerLostError: the process has ended.
        """
        return await self._ask(packed(message), self._longest_s)

    async def close(self) -> None:
        """End the process for good."""
        self._is_closed = True
        if self._process is not None:
            await _end(self._process)

    async def _ask(self, message: bytes, longest_s: float) -> Any:
        process = self._process if self._process is not None and self._has_started else await self.start()
        assert process.stdin is not None and process.stdout is not None
        if not process.stdin.is_closing():  # to write to it would be a RuntimeError of uvloop's
            # Never waited for: the process may be writing an answer meanwhile, which is to be read first.
            process.stdin.write(message)
        try:
            async with self._answering:  # which is given in the order of the messages
                try:
                    async with asyncio.timeout(longest_s):
                        return await receive_from(process.stdout)
                except TimeoutError:
                    problem = f"it was ended, having been stuck for {longest_s:g} seconds"
                except (EOFError, OSError):
                    problem = "its process ended"
                was_at_it = self._process is process  # else who asked before has found it lost
                await self._lose(process)
        except asyncio.CancelledError:  # nobody may take the answer, which will come, for that to another message
            self._forget(process)
            raise
        raise WorkerLostError(f"{problem}, with status {process.returncode}", was_at_it)

    async def _lose(self, process: Process) -> None:
        self._forget(process)
        await _end(process)

    def _forget(self, process: Process) -> None:
        _kill(process)
        if self._process is process:
            self._process, self._has_started = None, False


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    except TimeoutError:
        _kill(process)
        await process.wait()
