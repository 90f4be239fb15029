"""How fast variants of a model are, measured in turn, so that the swings of a shared machine hit all alike."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from landuse.exporting.graph import ServedNetwork
from landuse.exporting.quiet import quiet

Run = Callable[[NDArray[np.uint8]], object]

BATCH = 32  # images, for the throughput
SINGLE_CALLS = 10  # a round, one image each
FEWEST_ROUNDS, MOST_ROUNDS = 5, 30
ENOUGH_S = 20.0  # of rounds, once there are the fewest


@dataclass(frozen=True)
class Speed:
    """Of one variant.

    Attributes:
        latency_ms: of one image, the median of all calls.
        latency_spread_ms: the 10th and the 90th percentile.
        images_per_second: in batches of 32, of the median batch.
    """

    latency_ms: float
    latency_spread_ms: tuple[float, float]
    images_per_second: float


def measure(variants: Mapping[str, Run], image_size: int) -> dict[str, Speed]:
    """Time every variant on the same noise: a round takes each once, single images and a batch, and rounds repeat."""
    draws = np.random.default_rng(0)
    batch = draws.integers(0, 256, (BATCH, image_size, image_size, 3), dtype=np.uint8)
    single = batch[:1]
    for run in variants.values():
        run(single), run(batch)
    singles: dict[str, list[float]] = {name: [] for name in variants}
    batches: dict[str, list[float]] = {name: [] for name in variants}
    started = time.perf_counter()
    for number in range(MOST_ROUNDS):
        if number >= FEWEST_ROUNDS and time.perf_counter() - started > ENOUGH_S:
            break
        for name, run in variants.items():
            run(single)  # the threads of the one before have gone to sleep by then
            singles[name] += [_seconds(run, single) for _ in range(SINGLE_CALLS)]
            batches[name].append(_seconds(run, batch))
    return {name: _summary(singles[name], batches[name]) for name in variants}


def in_torch(network: ServedNetwork) -> Run:
    """The network as PyTorch runs it by itself, in channels_last, which its convolutions prefer on CPUs."""
    network = network.to(memory_format=torch.channels_last)

    def run(images: NDArray[np.uint8]) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(images))

    return run


def compiled(network: ServedNetwork, image_size: int) -> tuple[Run | None, str]:
    """The network as torch.compile makes it, for a batch of one and of 32, and a note: how long that took, or why not.

    Its cache is a temporary folder, so that every compilation is a first one.
    """
    from torch._inductor import config
    from torch._inductor.utils import fresh_cache

    images = np.zeros((BATCH, image_size, image_size, 3), np.uint8)
    with (
        tempfile.TemporaryDirectory() as folder,
        fresh_cache(dir=folder),
        config.patch(compile_threads=1),  # no pool of processes
        quiet(),
    ):
        torch._dynamo.reset()
        run = in_torch(torch.compile(network, dynamic=False))  # type: ignore[arg-type]
        started = time.perf_counter()
        try:
            run(images[:1]), run(images)
        except Exception as error:  # of its own, or of the C++ compiler that it needs and may lack
            problem = str(error).strip().partition("\n")[0][:200]
            return None, f"does not compile here: {problem}"
        return run, f"compiled in {time.perf_counter() - started:.0f} s"


def _seconds(run: Run, images: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    run(images)
    return time.perf_counter() - started


def _summary(singles: list[float], batches: list[float]) -> Speed:
    milliseconds = 1000 * np.array(singles)
    low, high = np.percentile(milliseconds, [10, 90])
    return Speed(float(np.median(milliseconds)), (float(low), float(high)), BATCH / statistics.median(batches))
