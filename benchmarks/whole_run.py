"""Seconds of a whole run, from images on the disk to a trained network, against what it replaces.

    python -m benchmarks.whole_run [pairs=3] [size=256] [per_class=80] [epochs=1] [workers=2] [device=cpu|cuda]
        [archive=...] [any training override]

In turn, each in a process of its own, on the same PNG images and with the same network (`model=cnn`), batch size and
optimiser:

  landuse    `python -m landuse.train`, everything on: packing, checkpoints, report
  fp32       the same in fp32, torch's own memory layout and the system's allocator
  original   what the project replaces: Lightning's Trainer, ImageFolder, Resize, ToTensor, all at their defaults
  equal      the same with landuse's precision, layout and allocator
  loop       a plain loop over a DataLoader, at PyTorch's defaults
  loop equal the same with landuse's precision, layout and allocator

Each trains on the same number of images and validates once an epoch. Memory is that of the largest of its processes.
Lightning is no dependency:
pip install 'landuse[benchmark]'; without it those two are left out.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.images import write_pngs
from benchmarks.measure import MIB, Report, run_process, split_options

KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000"}  # what hardware.allocator=keep tells glibc
PLAIN = ["hardware.precision=fp32", "hardware.channels_last=false", "hardware.allocator=system"]
BATCH = 64


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, overrides = split_options(
        arguments,
        pairs=3,
        size=256,
        per_class=80,
        epochs=1,
        workers=2,
        archive="",
        precision="bf16",
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        folder = Path(name)
        count = write_pngs(folder / "train", options["per_class"], options["size"], options["archive"] or None)
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, list[float]] = {}
        for pair in range(options["pairs"]):
            for kind, (command, environment) in _commands(folder, pair, options, overrides).items():
                process = run_process(command, folder, environment)
                seconds.setdefault(kind, []).append(process.seconds)
                peaks.setdefault(kind, []).append(process.peak_bytes / MIB)
    settings = {key: options[key] for key in ("size", "epochs", "workers", "device", "precision")}
    report = Report("whole_run", {"images": count, "batch": BATCH, **settings})
    for kind, values in seconds.items():
        report.add(kind, "s", values)
    for kind in seconds:
        if kind not in ("landuse", "fp32"):
            report.ratio(f"{kind} / landuse", seconds[kind], seconds["landuse"])
    for kind in ("original", "loop"):
        if kind in seconds:
            report.ratio(f"{kind} / fp32", seconds[kind], seconds["fp32"])
    for kind, values in peaks.items():
        report.add(f"memory of {kind}", "MiB", values)
    report.finish()


def _commands(
    folder: Path, pair: int, options: dict[str, object], overrides: list[str]
) -> dict[str, tuple[list[str], dict[str, str]]]:
    ours = [
        "-m", "landuse.train", "data=folder", f"data.root={folder / 'train'}", f"data.image_size={options['size']}",
        "augment=none", f"trainer.epochs={options['epochs']}", f"trainer.batch_size={BATCH}", "trainer.warmup_epochs=0",
        f"trainer.device={options['device']}", *overrides,
    ]  # fmt: skip
    rival = [str(folder / "train"), *(f"{options[key]}" for key in ("size", "epochs", "workers", "device"))]
    equal = ["equal", str(options["precision"])]
    found = {
        "landuse": ([*ours, f"data.home={folder / f'auto{pair}'}"], {}),
        "fp32": ([*ours, *PLAIN, f"data.home={folder / f'plain{pair}'}"], {}),
        "loop": (["-m", "benchmarks.rivals", "loop", *rival], {}),
        "loop equal": (["-m", "benchmarks.rivals", "loop", *rival, *equal], KEEP),
    }
    if importlib.util.find_spec("lightning") is not None:
        found["original"] = (["-m", "benchmarks.rivals", "lightning", *rival], {})
        found["equal"] = (["-m", "benchmarks.rivals", "lightning", *rival, *equal], KEEP)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
