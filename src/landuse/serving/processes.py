"""The service's side of its workers."""

import contextlib
import subprocess
import sys
import threading
import time

from landuse.serving.messages import Answered, Batch, Load, receive, send


class WorkerLostError(Exception):
    """The worker's process has ended while it was asked."""


class Worker:
    """A process that answers batches; started anew when it has ended. One thread asks at a time, the others wait."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._busy_since: float | None = None
        self._process = self._start()
        self._is_there = False  # whether the process has told that it has started

    @property
    def pid(self) -> int:
        """Of the process that there is now."""
        return self._process.pid

    def load(self, asked: Load) -> str | None:
        """Have a model loaded; why it could not be, or None."""
        with self._asking:
            problem = self._ask(asked)
        return problem if problem is None else str(problem)

    def answer(self, batch: Batch, load: Load) -> Answered:
        """Have a batch answered.

        Args:
            load: of its model, in case that the process has lost it.

        Raises:
            WorkerLostError: the process has ended in it; there is a new one.
            RuntimeError: it failed; the message is its traceback.
        """
        with self._asking:
            answer = self._ask(batch)
            if answer is None:
                if problem := self._ask(load):
                    raise RuntimeError(problem)
                answer = self._ask(batch)
        if not isinstance(answer, Answered):
            raise RuntimeError(answer)
        return answer

    def end_if_stuck(self, longest_s: float) -> bool:
        """End the process if it has been at one batch for longer; whoever waits for it is told that it is lost."""
        since = self._busy_since
        if since is None or time.monotonic() - since < longest_s:
            return False
        self._process.kill()
        return True

    def close(self) -> None:
        """End the process, at once if it is being asked: it has been given its time."""
        if self._asking.locked():
            self._process.kill()
        self._end(self._process)

    def _ask(self, message: Load | Batch) -> "Answered | str | None":
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            if not self._is_there:
                receive(process.stdout)
                self._is_there = True
            if isinstance(message, Batch):  # to start and to load may take as long as it takes
                self._busy_since = time.monotonic()
            send(process.stdin, message)
            answer: Answered | str | None = receive(process.stdout)
        except (EOFError, OSError) as error:
            self._end(process)
            self._process, self._is_there = self._start(), False
            raise WorkerLostError(f"its process ended with status {process.returncode}") from error
        finally:
            self._busy_since = None
        return answer

    @staticmethod
    def _start() -> "subprocess.Popen[bytes]":
        line = [sys.executable, "-m", "landuse.serving.worker"]
        return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @staticmethod
    def _end(process: "subprocess.Popen[bytes]") -> None:
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
