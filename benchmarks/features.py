"""What a feature costs, as a fraction of an epoch.

    python -m benchmarks.features [pairs=8] [any training override]

In one process and in turn, an epoch (training, validation, metrics file, checkpoint) of the configuration as given,
and one with each feature on top. Tracking is W&B's, offline; its own process works beside the training. The first row
is the plain one against itself: what two equal epochs differ by.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import Report, in_turn, split_options
from benchmarks.trainings import build_trainer, compose_config
from landuse.tracking.metrics_file import MetricsFile
from landuse.tracking.wandb_mirror import build_mirror
from landuse.training.observer import Observers

FEATURES = {
    "itself": [],
    "ema": ["trainer.ema=0.99"],
    "mixup": ["augment.mixup=0.2"],
    "cutmix": ["augment.cutmix=1.0"],
    "label smoothing": ["trainer.label_smoothing=0.1"],
    "clipping": ["trainer.clip_norm=1.0"],
    "tracking": ["tracking=offline"],
    "checkpoint every 10 steps": ["trainer.checkpoint_steps=10"],
    "deterministic": ["trainer.deterministic=true"],
}
MANY_EPOCHS = 1000  # so that no epoch of the benchmark is the last


def main(arguments: list[str]) -> None:
    """Measure and report."""
    os.environ.setdefault("WANDB_SILENT", "true")
    options, overrides = split_options(arguments, pairs=8)
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        plain = _epochs(overrides, Path(name) / "plain")
        others = [_epochs([*overrides, *more], Path(name) / str(i)) for i, more in enumerate(FEATURES.values())]
        base, *measured = in_turn(options["pairs"], plain, *others)
        checkpoint = Path(name) / "plain" / "checkpoints" / "last.pt"
        size = checkpoint.stat().st_size
    report = Report("features", {"overrides": " ".join(overrides), "checkpoint": f"{size / 1e6:.1f} MB"})
    report.add("an epoch", "s", base)
    for feature, values in zip(FEATURES, measured, strict=True):
        report.add(feature, "of an epoch", [value / plain - 1 for value, plain in zip(values, base, strict=True)])
    report.finish()


def _epochs(overrides: list[str], folder: Path) -> Callable[[], float]:
    """What trains another epoch, with a checkpoint at its end, and returns its seconds."""
    config = compose_config([*overrides, f"trainer.epochs={MANY_EPOCHS}"])
    folder.mkdir()
    observers = Observers()
    trainer = build_trainer(config, folder / "checkpoints", observers)
    observers.add(MetricsFile(folder / "metrics.jsonl", 0), build_mirror(config, folder))
    is_deterministic = config.trainer.deterministic

    def epoch() -> float:
        torch.use_deterministic_algorithms(is_deterministic)  # a switch of the whole process
        started = time.perf_counter()
        trainer._end_epoch(trainer._train_epoch(), trainer._validate())
        return time.perf_counter() - started

    return epoch


if __name__ == "__main__":
    main(sys.argv[1:])
