"""Several processes on one study: started, watched, replaced when one is killed, and stopped together."""

import _thread
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from landuse.config.processes import WORKER
from landuse.errors import SweepFailedError
from landuse.sweeps.board import Board
from landuse.sweeps.study import Sweep, worker_name

log = logging.getLogger(__name__)

SESSION = "LANDUSE_SWEEP_SESSION"  # set in workers: one start of a sweep, by which failures are counted
CAN_SIGNAL = os.name == "posix"  # elsewhere a process can only be ended at once, or end itself
POLL_S = 0.5
GRACE_S = 60.0  # to write a checkpoint after a signal, before being killed
MAX_FALSE_STARTS = 3  # of each worker, on average, without any that begins a trial
TAIL = 15  # lines of a worker's log that are shown


@dataclass
class _Worker:
    slot: int
    process: "subprocess.Popen[bytes]"
    log: Path


def is_worker() -> bool:
    """Whether this process was started by another one that watches it."""
    return SESSION in os.environ


def end_with_the_parent() -> None:
    """Have this worker interrupt itself once the process that started it is gone, however that ended.

    Its stdin is a pipe into which nothing is ever written, and which ends when the other end is closed.
    """

    def watch() -> None:
        os.read(0, 1)  # past Python's buffers, in which a waiting thread can abort the end of the process
        if CAN_SIGNAL:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            _thread.interrupt_main(signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def supervise(sweep: Sweep, session: str, count: int, device: str) -> None:
    """Have ``count`` workers run the sweep to its end.

    Each is this very command in a process of its own, on a share of the cores and on one of the GPUs, and claims the
    next trial as soon as it is free.

    Args:
        device: ``trainer.device``.

    Raises:
        SweepFailedError: too many trials failed, or workers do not start.
        KeyboardInterrupt, Interrupted: after the workers have stopped; their trials are queued again.
    """
    team = _Team(sweep, session, count, device)
    try:
        with Board(sweep) as board:
            while team.watch():
                board.show()
                sweep.raise_if_too_many_failed()
                time.sleep(POLL_S)
            board.show()
    finally:
        try:
            sweep.take_in_abandoned()
        finally:
            team.stop()
            sweep.take_in_abandoned(is_fault=False)  # of a worker that had claimed a trial, but not begun it


class _Team:
    def __init__(self, sweep: Sweep, session: str, count: int, device: str) -> None:
        sweep.take_in_abandoned()
        record = sweep.record()
        # Trials that run, on another machine for example, are waited for, as any of them may have to be begun again.
        count = min(count, sweep.num_to_begin(record) + record.count("running"))
        self._sweep, self._session, self._count = sweep, session, count
        self._gpus = visible_gpus() if device in ("auto", "cuda") else []
        self._num_false_starts = 0
        self._workers = [self._start(slot) for slot in range(count)]

    def _start(self, slot: int) -> _Worker:
        cores = share_of_cores(slot, self._count)
        environment = {
            **os.environ,
            SESSION: self._session,
            WORKER: str(slot),
            "OMP_NUM_THREADS": str(len(cores)),
            "HYDRA_FULL_ERROR": "0",  # which is set in this process: the end of their log is shown to people
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        path = self._sweep.plan.folder / f"worker-{slot}.log"
        with path.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "landuse.train", *sys.argv[1:]], env=environment, stdout=file, stderr=file,
                stdin=subprocess.PIPE, start_new_session=True,  # Ctrl-C is ours to pass on, once
            )  # fmt: skip
        with suppress(OSError, AttributeError):  # gone already, or no such call on this system
            os.sched_setaffinity(process.pid, cores)
        return _Worker(slot, process, path)

    def watch(self) -> bool:
        """Look after every worker; False once the sweep is at its end, here and on other machines."""
        others_run = False
        for i, worker in enumerate(self._workers):
            if worker.process.poll() is None:
                continue
            self._sweep.take_in_abandoned()
            record = self._sweep.record()
            if self._sweep.num_to_begin(record) == 0:
                others_run |= record.count("running") > 0  # and may be killed, so that there is more to do
                continue
            self._sweep.raise_if_too_many_failed()  # which is why a worker ends with an error as well
            self._judge(worker, any(trial.worker == worker_name(worker.process.pid) for trial in record.trials))
            self._workers[i] = self._start(worker.slot)
        return others_run or any(worker.process.poll() is None for worker in self._workers)

    def _judge(self, worker: _Worker, has_begun: bool) -> None:
        """Say why a worker ended; give up when one after the other does without having begun a trial."""
        code = worker.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if code != 0:  # else it found nothing to do, which has changed since
            self._num_false_starts = 0 if has_begun else self._num_false_starts + 1
        if self._num_false_starts >= MAX_FALSE_STARTS * self._count or code == 2:
            lines = worker.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
            raise SweepFailedError(f"Worker {worker.slot} {how}, see {worker.log}:\n" + "\n".join(lines))
        if code != 0:
            log.warning("worker %d %s: another takes its place", worker.slot, how)

    def stop(self) -> None:
        """Interrupt those that still run, and wait until they have saved what they have."""
        running = [worker.process for worker in self._workers if worker.process.poll() is None]
        for process in running:
            if CAN_SIGNAL:
                process.terminate()  # not SIGINT, which a shell lets commands in the background ignore
            else:
                assert process.stdin is not None
                process.stdin.close()  # upon which it interrupts itself
        deadline = time.monotonic() + GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def share_of_cores(slot: int, count: int) -> list[int]:
    """The cores of worker ``slot`` of ``count``: equal shares, or one that it has in common with others."""
    has_call = hasattr(os, "sched_getaffinity")
    cores = sorted(os.sched_getaffinity(0)) if has_call else list(range(os.cpu_count() or 1))
    return cores[slot::count] if count <= len(cores) else [cores[slot % len(cores)]]


def visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, found without importing torch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]  # below them, their MIG slices
    return [str(i) for i in range(len(gpus))]
