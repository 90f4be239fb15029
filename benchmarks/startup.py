"""Seconds from the start of a process to the end of its first training step.

    python -m benchmarks.startup [pairs=8] [any training override]

In turn: `python -m landuse.train`, and a bare script that imports torch, builds the same network and `torch.optim`'s
optimiser, and takes one step on random images of the same size. The data are packed before. Both leave after their
first step, at once; neither has its modules on a cold disk.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import MIB, Report, run_process, split_options

MARK = "first step"


def main(arguments: list[str]) -> None:
    """Measure and report."""
    if arguments[:1] == ["ours"]:
        ours(arguments[1:])
        return
    if arguments[:1] == ["bare"]:
        bare(json.loads(arguments[1]))
        return
    options, overrides = split_options(arguments, pairs=8)
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        folder = Path(name)
        given = [f"data.home={folder / 'data'}", "trainer.device=cpu", *overrides]
        run_process(["-m", "landuse.preprocess", *given], folder)
        seconds: dict[str, list[float]] = {"bare": [], "ours": []}
        peaks: dict[str, list[float]] = {"bare": [], "ours": []}
        for pair in range(options["pairs"] + 1):  # the first reads the modules from the disk
            what = json.dumps(_settings(given))
            for kind, more in (("bare", [what]), ("ours", given)):
                process = run_process(["-m", "benchmarks.startup", kind, *more], folder)
                if pair:
                    assert MARK in process.output, process.output
                    seconds[kind].append(process.seconds)
                    peaks[kind].append(process.peak_bytes / MIB)
    report = Report("startup", {"overrides": " ".join(overrides)})
    report.add("bare script", "s", seconds["bare"])
    report.add("landuse.train", "s", seconds["ours"])
    report.ratio("landuse.train / bare script", seconds["ours"], seconds["bare"])
    report.add("memory of the bare script", "MiB", peaks["bare"])
    report.add("memory of landuse.train", "MiB", peaks["ours"])
    report.finish()


def ours(overrides: list[str]) -> None:
    """`landuse.train` with these overrides, ended after its first step."""
    from landuse import train
    from landuse.tracking.console import Console

    def leave(self: Console, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        print(MARK, flush=True)
        os._exit(0)

    Console.step = leave  # type: ignore[method-assign]
    sys.argv[1:] = overrides
    train.main()


def bare(settings: dict[str, object]) -> None:
    """The least that takes a step."""
    started = time.perf_counter()
    import torch
    from torch.nn import functional as F

    from landuse.models.cnn import CNN

    size, batch, precision = settings["size"], settings["batch"], settings["precision"]
    assert isinstance(size, int) and isinstance(batch, int)
    model = CNN(21).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    images, labels = torch.rand(batch, 3, size, size), torch.zeros(batch, dtype=torch.long)
    images = images.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = model(images)
    F.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
    print(MARK, f"{time.perf_counter() - started:.2f}", flush=True)
    os._exit(0)


def _settings(overrides: list[str]) -> dict[str, object]:
    from benchmarks.trainings import compose_config
    from landuse.models.registry import build_model
    from landuse.training.device import build_runtime

    config = compose_config(overrides)
    runtime = build_runtime("cpu", config.hardware, build_model(config.model, 21, config.data.image_size))
    return {"size": config.data.image_size, "batch": config.trainer.batch_size, "precision": runtime.precision}


if __name__ == "__main__":
    main(sys.argv[1:])
