"""Workers may end or hang, whatever an image does to them; the service goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.serving.images import encoded
from tests.serving.running import Running, running
from tests.serving.test_lifecycle import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by Linux's /proc")


def ask(service: Running) -> int:
    with service.client() as client:
        return client.post("/predict", files={"file": encoded()}).status_code


def test_a_killed_worker_is_replaced_and_no_request_fails(exported: Path) -> None:
    with running(exported, "serve.lanes=2") as service:
        statuses, stop = [], threading.Event()

        def go_on() -> None:
            while not stop.is_set():
                statuses.append(ask(service))

        threads = [threading.Thread(target=go_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = service.workers
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda before=before: len(service.workers) == 2 and service.workers != before)
            answered = len(statuses)  # until both lanes are at work again
            wait_until(lambda answered=answered: len(statuses) > answered + 20)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        assert service.named("a worker was lost")


def test_a_stuck_worker_is_ended(exported: Path) -> None:
    with running(exported, "serve.lanes=1", "serve.deadline_s=1") as service:
        assert ask(service) == 200
        (worker,) = service.workers
        os.kill(worker, signal.SIGSTOP)
        assert ask(service) == 503
        wait_until(lambda: any("stuck" in lost["reason"] for lost in service.named("a worker was lost")))
        wait_until(lambda: ask(service) == 200)
        assert service.workers != [worker]


def test_workers_end_with_the_service(exported: Path) -> None:
    with running(exported, "serve.lanes=2") as service:
        pids = service.workers
        assert len(pids) == 2
        service.process.kill()
        service.process.wait()
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_an_interrupt_of_the_group_is_answered_by_the_service_alone(exported: Path) -> None:
    """Ctrl-C goes to the workers as well."""
    with running(exported, "serve.lanes=2") as service:
        for pid in service.workers:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert ask(service) == 200
        assert service.stop(signal.SIGINT) == 0


@pytest.mark.slow
def test_a_service_that_has_not_started_yet_is_told_to_stop(exported: Path) -> None:
    line = [sys.executable, "-m", "landuse.serve", f"run={exported}", "serve.port=0", "serve.lanes=1"]
    process = subprocess.Popen(line, cwd=exported, stderr=subprocess.PIPE)
    wait_until(lambda: Running(process, "").workers)
    (worker,) = Running(process, "").workers
    # Until it runs a program of its own the service waits for it, and would wait for ever for one that is stopped.
    wait_until(lambda: b"landuse.serve" not in Path(f"/proc/{worker}/cmdline").read_bytes())
    os.kill(worker, signal.SIGSTOP)
    process.terminate()
    assert process.wait(20) == 0
    assert not Path(f"/proc/{worker}").exists()
    assert process.stderr is not None and b"ready" not in process.stderr.read()
