"""The service's side of its workers."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from landuse.serving.messages import Answered, Batch, Load, packed, receive_from

GRACE_S = 1.0  # for a process to end by itself


class WorkerLostError(Exception):
    """The worker's process has ended, or was ended because it took too long."""

    def __init__(self, problem: str, was_begun: bool) -> None:
        """
        Args:
            was_begun: whether it was at the message that it was asked; else at one before.
        """
        super().__init__(problem)
        self.was_begun = was_begun


class Worker:
    """A process that answers messages in their order; started anew when it has ended."""

    def __init__(self, longest_s: float) -> None:
        """
        Args:
            longest_s: that a batch may take; an image that takes its worker longer than anybody waits takes nobody
                else's. To start and to load may take as long as it takes.
        """
        self._longest_s = longest_s
        self._starting, self._answering = asyncio.Lock(), asyncio.Lock()
        self._process: Process | None = None
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
            if self._process is None:
                line = [sys.executable, "-m", "landuse.serving.worker"]
                process = await asyncio.create_subprocess_exec(*line, stdin=PIPE, stdout=PIPE)
                assert process.stdout is not None
                try:
                    await receive_from(process.stdout)  # that it is there
                except EOFError:
                    await _end(process)
                    raise WorkerLostError(f"it did not start, with status {process.returncode}", True) from None
                self._process = process
            return self._process

    async def load(self, message: bytes) -> str | None:
        """Have a model loaded; why it could not be, or None.

        Args:
            message: :class:`Load`, packed.

        Raises:
            WorkerLostError: the process has ended.
        """
        try:
            problem = await self._ask(message, None)
        except WorkerLostError as error:
            if error.was_begun:
                raise
            problem = await self._ask(message, None)
        return problem if problem is None else str(problem)

    async def answer(self, batch: Batch, load: Load) -> Answered:
        """Have a batch answered.

        Args:
            load: of its model, in case that the process has lost it.

        Raises:
            WorkerLostError: the process has ended.
            RuntimeError: it failed; the message is its traceback.
        """
        message = packed(batch)
        answer = await self._ask(message, self._longest_s)
        if answer is None:
            if problem := await self._ask(packed(load), None):
                raise RuntimeError(problem)
            answer = await self._ask(message, self._longest_s)
        if not isinstance(answer, Answered):
            raise RuntimeError(answer)
        return answer

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            await _end(self._process)

    async def _ask(self, message: bytes, longest_s: float | None) -> Any:
        process = self._process or await self.start()
        assert process.stdin is not None and process.stdout is not None
        if not process.stdin.is_closing():  # to write to it would be a RuntimeError of uvloop's
            process.stdin.write(message)
        try:
            async with self._answering:  # which is given in the order of the messages
                try:
                    async with asyncio.timeout(longest_s):
                        await process.stdin.drain()
                        return await receive_from(process.stdout)
                except TimeoutError:
                    problem = f"it was ended, having been stuck for {longest_s:g} seconds"
                except (EOFError, OSError):
                    problem = "its process ended"
                was_begun = self._lose(process)  # else who asked before has found it lost
                await _end(process)
        except asyncio.CancelledError:  # nobody may take the answer, which will come, for that to another message
            self._lose(process)
            raise
        raise WorkerLostError(f"{problem}, with status {process.returncode}", was_begun)

    def _lose(self, process: Process) -> bool:
        """End a process; whether it was the present one."""
        _kill(process)
        is_present = self._process is process
        if is_present:
            self._process = None
        return is_present


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
