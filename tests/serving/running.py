"""A service of its own for a test, started and stopped as users do."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_S, STOP_S = 60, 60


@dataclass
class Running:
    """A service that is ready."""

    process: "subprocess.Popen[str]"
    address: str
    events: list[dict[str, Any]] = field(default_factory=list)  # what it has logged so far

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers=headers, timeout=30)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def named(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.events if line["event"] == event]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def workers(self) -> list[int]:
        """Pids of the processes that answer for it (Linux)."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]

    @property
    def num_threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


@contextmanager
def running(run: Path, *overrides: str, **environment: str) -> Iterator[Running]:
    """``python -m landuse.serve`` on a free port of this machine."""
    line = [sys.executable, "-m", "landuse.serve", f"run={run}", "serve.port=0", *overrides]
    process = subprocess.Popen(line, cwd=run, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    service, ready = Running(process, ""), threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for text in process.stderr:
            event = json.loads(text) if text.startswith("{") else {"event": text.strip()}
            service.events.append(event)
            if event["event"] == "ready":
                service.address = event["address"]
                ready.set()
        ready.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        assert ready.wait(START_S) and service.address, service.events
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        thread.join(5)
