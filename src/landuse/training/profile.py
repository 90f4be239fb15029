"""What a step's time goes into: a trace, a table of the slowest operators, and the split into parts."""

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch

from landuse.files import write_json

log = logging.getLogger(__name__)

# Of a step, in the order of their first coming; what none of them takes is `other`.
PARTS = ("data", "transfer", "augmentation", "forward", "backward", "optimiser", "logging")
STEP = "step"
NUM_WARM_UP = 2  # first steps, which allocate and choose kernels, and do not count where there are more
_NOTHING = nullcontext()


class _Split:
    """Seconds of each part in each step."""

    def __init__(self, synchronise: Any) -> None:
        self._synchronise, self.thread = synchronise, threading.get_ident()
        self._steps: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        with torch.profiler.record_function(f"landuse::{name}"):
            started = time.perf_counter()
            yield
            self._synchronise()
        self._now[name] += time.perf_counter() - started
        if name == STEP:
            self._steps.append(dict(self._now))
            self._now.clear()

    def medians(self) -> dict[str, float]:
        """Median seconds a step of each part, of the whole and of the rest; empty where no step was done."""
        steps = self._steps[NUM_WARM_UP:] or self._steps
        if not steps:
            return {}
        found = {part: median(step.get(part, 0.0) for step in steps) for part in (*PARTS, STEP)}
        rest = median(step[STEP] - sum(step.get(part, 0.0) for part in PARTS) for step in steps)
        return found | {"other": max(0.0, rest)}


_split: _Split | None = None


def part(name: str) -> AbstractContextManager[None]:
    """A part of a step, for the profile; nothing where none is recorded, and in other threads, which work beside it."""
    return _NOTHING if _split is None or _split.thread != threading.get_ident() else _split.part(name)


@contextmanager
def profiled(enabled: bool, folder: Path) -> Iterator[None]:
    """Record the block; write ``trace.json`` (opens in ui.perfetto.dev), ``operators.txt`` and ``step.json``.

    A GPU is waited for after each part, so that the parts can be told apart; without a profile they overlap.
    """
    global _split
    if not enabled:
        yield
        return
    activities, has_cuda = [torch.profiler.ProfilerActivity.CPU], torch.cuda.is_available()
    if has_cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    _split = split = _Split(torch.cuda.synchronize if has_cuda else lambda: None)
    try:
        with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
            yield
    finally:
        _split = None
    folder.mkdir(exist_ok=True)
    profiler.export_chrome_trace(str(folder / "trace.json"))
    key = "self_cuda_time_total" if has_cuda else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=key, row_limit=30)
    (folder / "operators.txt").write_text(table, encoding="utf-8", newline="\n")
    seconds = split.medians()
    write_json(folder / "step.json", {"seconds": seconds})
    with contextlib.suppress(KeyError, ZeroDivisionError):  # no step was done
        for name in (*PARTS, "other"):
            log.info("%-12s %8.2f ms  %4.1f %%", name, 1e3 * seconds[name], 100 * seconds[name] / seconds[STEP])
        log.info("%-12s %8.2f ms  median of the steps after the first %d", STEP, 1e3 * seconds[STEP], NUM_WARM_UP)
    log.info("profile     %s", folder)
