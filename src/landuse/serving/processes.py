"""The service's side of its workers."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process

from landuse.serving.messages import Answered, Batch, Load, packed, receive_from

GRACE_S = 1.0  # for a process to end by itself


class WorkerLostError(Exception):
    """The worker's process has ended while it was asked, or was ended because it took too long."""


class Worker:
    """A process that answers batches, one at a time; started anew when it has ended."""

    def __init__(self, longest_s: float) -> None:
        """
        Args:
            longest_s: that a batch may take; an image that takes its worker longer than anybody waits takes nobody
                else's. To start and to load may take as long as it takes.
        """
        self._longest_s = longest_s
        self._asking = asyncio.Lock()
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that there is now, if there is one."""
        return None if self._process is None else self._process.pid

    async def load(self, asked: Load) -> str | None:
        """Have a model loaded; why it could not be, or None.

        Raises:
            WorkerLostError: the process has ended in it.
        """
        message = await asyncio.to_thread(packed, asked)
        async with self._asking:
            problem = await self._ask(message, None)
        return problem if problem is None else str(problem)

    async def answer(self, batch: Batch, load: Load) -> Answered:
        """Have a batch answered.

        Args:
            load: of its model, in case that the process has lost it.

        Raises:
            WorkerLostError: the process has ended in it.
            RuntimeError: it failed; the message is its traceback.
        """
        message = packed(batch)
        async with self._asking:
            answer = await self._ask(message, self._longest_s)
            if answer is None:
                if problem := await self._ask(packed(load), None):
                    raise RuntimeError(problem)
                answer = await self._ask(message, self._longest_s)
        if not isinstance(answer, Answered):
            raise RuntimeError(answer)
        return answer

    async def close(self) -> None:
        """End the process, at once if it is being asked: it has been given its time."""
        if self._process is not None:
            if self._asking.locked():
                _kill(self._process)
            await _end(self._process)

    async def _ask(self, message: bytes, longest_s: float | None) -> "Answered | str | None":
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "landuse.serving.worker", stdin=PIPE, stdout=PIPE
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(longest_s):
                if process.stdin.is_closing():  # to write to it would be a RuntimeError of uvloop's
                    raise BrokenPipeError
                process.stdin.write(message)
                await process.stdin.drain()
                answer: Answered | str | None = await receive_from(process.stdout)
        except TimeoutError:
            _kill(process)
            problem = f"it was ended, having been stuck for {longest_s:g} seconds"
        except (EOFError, OSError):
            problem = "its process ended"
        else:
            return answer
        self._process = None
        await _end(process)
        raise WorkerLostError(f"{problem}, with status {process.returncode}")


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
