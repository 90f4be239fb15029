"""How much of the machine's speed the training loop keeps.

    python -m benchmarks.training [pairs=8] [any training override, such as model=resnet18 trainer.device=cuda]

Runs, in turn and in one process, an epoch of the framework's loop (gather, augment, normalise, forward, backward,
update, guard, bookkeeping) and as many bare steps (forward, backward, update) on tensors that lie on the device
already. Same model, optimiser, precision, layout and batch size. The loop runs on these tensors as well, and its
batches are made by themselves: that tells the loop's own cost from the data's.

Utilisation is of the fastest matrix product that was measured in the same process and precision; operations are counted
by torch, multiplications and additions apart. Memory is the process's; on a GPU what an epoch takes beyond what lay
there. On a GPU, `busy` is the share of an epoch in which it computes or copies; the profiler that tells it slows the
host.
"""

import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import MIB, Report, anonymous_bytes, in_turn, split_options
from benchmarks.trainings import build_trainer, compose_config, wait
from landuse.config.schema import Config
from landuse.data.augment import normalise
from landuse.models.registry import build_model
from landuse.training.batches import Batch, StepPlan, epoch_plan
from landuse.training.loop import Trainer
from landuse.training.optim import build_optimizer

GEMM_SIDE, GEMM_ROUNDS = {"cpu": 2048, "cuda": 8192}, 10


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, overrides = split_options(arguments, pairs=8)
    config = compose_config(overrides)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, Path(folder))
        settings = {"model": config.model.name, "px": config.data.image_size, "batch": config.trainer.batch_size}
        report = Report("training", {**settings, **trainer._runtime.describe()})
        bare = _BareLoop(trainer, config)
        memory: dict[str, list[float]] = {}

        def rate(name: str, epoch: Callable[[], object]) -> float:
            before = _start_memory(trainer)
            started = time.perf_counter()
            epoch()
            wait(trainer)
            seconds = time.perf_counter() - started
            memory.setdefault(name, []).append((_peak_memory(trainer) - before) / MIB)
            return trainer._train_images.num_images / seconds

        bare_rates, rates, fed_rates, data_rates = in_turn(
            options["pairs"],
            lambda: rate("bare", bare.epoch),
            lambda: rate("loop", lambda: _epoch(trainer)),
            lambda: rate("fed", lambda: _fed_epoch(trainer, bare)),
            lambda: rate("data", lambda: _data(trainer)),
        )
        flops, best = bare.flops_per_image(), _fastest_product(trainer)
    report.add("bare steps", "images/s", bare_rates)
    report.add("the framework's loop", "images/s", rates)
    report.ratio("loop / bare", rates, bare_rates)
    report.ratio("loop fed from memory / bare", fed_rates, bare_rates)
    report.add("its batches alone", "images/s", data_rates)
    report.add("operations", "GFLOP/image", [flops / 1e9])
    report.add("fastest matrix product", "GFLOP/s", [best / 1e9])
    report.add("utilisation by the loop", "", [rate * flops / best for rate in rates])
    if trainer._runtime.device.type == "cuda":
        report.add("GPU busy in the loop", "", [_busy(trainer) for _ in range(3)])
    report.add("memory in bare steps", "MiB", memory["bare"][1:])
    report.add("memory in the loop", "MiB", memory["loop"][1:])
    report.finish()


def _epoch(trainer: Trainer) -> None:
    trainer._train_epoch()
    trainer.state.epoch, trainer.state.step = trainer.state.epoch + 1, 0
    trainer.state.loss_sum, trainer.state.num_images = 0.0, 0


def _fed_epoch(trainer: Trainer, bare: "_BareLoop") -> None:
    """The loop on the bare steps' tensors: what is left without the data."""
    batches, trainer._batches = trainer._batches, bare  # type: ignore[assignment]
    try:
        _epoch(trainer)
    finally:
        trainer._batches = batches


def _data(trainer: Trainer) -> None:
    """An epoch's batches, gathered and augmented, and nothing trained on them."""
    config, images = trainer._config, trainer._train_images
    plan = epoch_plan(images.num_images, config.trainer.batch_size, 1, config.seed, 0, None)
    for _, batches in trainer._batches.of_epoch(0, plan):
        deque(batches, maxlen=0)


class _BareLoop:
    """Forward, backward and update on one epoch's worth of resident batches."""

    def __init__(self, trainer: Trainer, config: Config) -> None:
        runtime = self._runtime = trainer._runtime
        self._model = runtime.place(build_model(config.model, len(trainer._classes), config.data.image_size)).train()
        any_size = None if config.augment.start_size else False  # as the loop does it
        self._forward = torch.compile(self._model, dynamic=any_size) if runtime.compile else self._model
        self._optimizer = build_optimizer(self._model, config.trainer)
        plan = epoch_plan(trainer._train_images.num_images, config.trainer.batch_size, 1, 0, 0, None)
        half = torch.full((3,), 0.5, device=runtime.device)
        batches = [trainer._train_images.gather(step.batches[0]) for step in plan]
        self._batches = [(normalise(images, half, half), labels) for images, labels in batches]

    def of_epoch(self, epoch: int, plan: list[StepPlan], done: int) -> Generator[tuple[StepPlan, list[Batch]]]:
        """As the loop asks for batches; these are not its plan's."""
        for step, (inputs, labels) in zip(plan, self._batches, strict=True):
            yield step, [Batch(inputs, labels, labels, 1.0)]

    def epoch(self) -> None:
        for inputs, labels in self._batches:
            with self._runtime.autocast():
                logits = self._forward(inputs)
            F.cross_entropy(logits.float(), labels).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()

    def flops_per_image(self) -> float:
        inputs, labels = self._batches[0]
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(self._model(inputs).float(), labels).backward()
        self._optimizer.zero_grad()
        return counter.get_total_flops() / len(inputs)


def _fastest_product(trainer: Trainer) -> float:
    """Operations per second of a large square matrix product."""
    runtime = trainer._runtime
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[runtime.precision]
    side = GEMM_SIDE[runtime.device.type]
    a, b = (torch.randn(side, side, device=runtime.device, dtype=dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(GEMM_ROUNDS):
        wait(trainer)
        started = time.perf_counter()
        a @ b
        wait(trainer)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * side**3 / fastest


def _busy(trainer: Trainer) -> float:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        _epoch(trainer)
        wait(trainer)
        seconds = time.perf_counter() - started
    events = [event for event in profiler.events() or [] if event.device_type == DeviceType.CUDA]
    if not events:
        raise RuntimeError("the profiler saw nothing of the GPU")
    return covered([(event.time_range.start, event.time_range.end) for event in events]) / 1e6 / seconds


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How much of a line these spans cover, where they overlap once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _start_memory(trainer: Trainer) -> int:
    """Bytes that are not an epoch's own: on a GPU all that lies there, for both sides keep their tensors at hand."""
    if trainer._runtime.device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak_memory(trainer: Trainer) -> int:
    return torch.cuda.max_memory_allocated() if trainer._runtime.device.type == "cuda" else anonymous_bytes()


if __name__ == "__main__":
    main(sys.argv[1:])
