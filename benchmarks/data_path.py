"""Batches alone, ready for a network: from the packed dataset, and from a folder of PNG images.

    python -m benchmarks.data_path [pairs=8] [size=256] [per_class=20] [workers=2] [archive=...] [any training override]

In turn: an epoch of the framework's batches (gathered, normalised, augmented as configured, by default not at all), and
one of torchvision's ImageFolder with Resize, ToTensor and Normalize in a DataLoader, in this process and with worker
processes. The images were written as PNG and packed beforehand.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.images import write_pngs
from benchmarks.measure import MIB, Report, anonymous_bytes, in_turn, split_options
from benchmarks.trainings import build_trainer, compose_config, wait
from landuse.training.batches import Batch, epoch_plan
from landuse.training.loop import Trainer


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, overrides = split_options(arguments, pairs=8, size=256, per_class=20, workers=2, archive="")
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        root, home = Path(name) / "images", Path(name) / "data"
        count = write_pngs(root, options["per_class"], options["size"], options["archive"] or None)
        data = ["data=folder", f"data.root={root}", f"data.home={home}", f"data.image_size={options['size']}"]
        data += ["data.quality.duplicates=off", "data.split.fractions=[0.8,0.1,0.1]", "augment=none"]
        config = compose_config([*data, "model.width=4", *overrides])
        trainer = build_trainer(config, Path(name))
        batch = config.trainer.batch_size
        loaders = [_loader(root, options["size"], batch, workers) for workers in (0, options["workers"])]
        packed, alone, workers = in_turn(
            options["pairs"],
            lambda: _packed(trainer, batch),
            lambda: _loaded(loaders[0]),
            lambda: _loaded(loaders[1]),
        )
    report = Report("data_path", {"images": count, "px": options["size"], "batch": batch})
    report.add("packed", "images/s", packed)
    report.add("ImageFolder, this process", "images/s", alone)
    report.add(f"ImageFolder, {options['workers']} workers", "images/s", workers)
    report.ratio("packed / ImageFolder, this process", packed, alone)
    report.ratio("packed / ImageFolder, workers", packed, workers)
    report.add("memory of this process", "MiB", [anonymous_bytes() / MIB])
    report.finish()


def _packed(trainer: Trainer, batch: int) -> float:
    plan = epoch_plan(trainer._train_images.num_images, batch, 1, 0, 0, None)
    started = time.perf_counter()
    # Each is let go before the next is made, as in training.
    count = sum(sum(map(_size, batches)) for _, batches in trainer._batches.of_epoch(0, plan))
    wait(trainer)
    return count / (time.perf_counter() - started)


def _size(batch: Batch) -> int:
    return len(batch.inputs)


def _loader(root: Path, side: int, batch: int, workers: int) -> "DataLoader[tuple[torch.Tensor, torch.Tensor]]":
    normalise = transforms.Normalize([0.5] * 3, [0.2] * 3)
    steps = transforms.Compose([transforms.Resize(side), transforms.ToTensor(), normalise])
    images = datasets.ImageFolder(str(root), steps)
    return DataLoader(images, batch, shuffle=True, num_workers=workers)


def _loaded(loader: "DataLoader[tuple[torch.Tensor, torch.Tensor]]") -> float:
    started = time.perf_counter()
    count = sum(len(images) for images, _ in loader)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1:])
