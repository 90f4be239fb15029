"""A trace of a short training."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

log = logging.getLogger(__name__)


@contextmanager
def profiled(enabled: bool, folder: Path) -> Iterator[None]:
    """Record every operator; write ``trace.json`` (opens in ui.perfetto.dev) and ``operators.txt``, the 30 slowest."""
    if not enabled:
        yield
        return
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        yield
    folder.mkdir(exist_ok=True)
    profiler.export_chrome_trace(str(folder / "trace.json"))
    key = "self_cuda_time_total" if len(activities) > 1 else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=key, row_limit=30)
    (folder / "operators.txt").write_text(table, encoding="utf-8")
    log.info("profile     %s", folder)
