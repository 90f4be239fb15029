"""What a feature costs, as a fraction of an epoch.

    python -m benchmarks.features [pairs=8] [only=tracking] [any training override]

In one process and in turn, an epoch (training, validation, metrics file, checkpoint) of the configuration as given,
and one with each feature on top, held against the mean of the plain ones before and after it. Tracking is W&B's,
offline; the process that copies works beside the training. The first rows are the share of the plain one that its
checkpoints take, and the plain one against itself: what equal epochs differ by.
"""

import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.measure import Report, in_turn, split_options
from benchmarks.trainings import build_trainer, compose_config
from landuse.runs import write_config
from landuse.tracking.follow import POLL_S
from landuse.tracking.metrics_file import MetricsFile
from landuse.tracking.mirror import mirroring
from landuse.training import checkpoint
from landuse.training.device import _set_switches
from landuse.training.loop import Trainer
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
    options, overrides = split_options(arguments, pairs=8, only="")
    features = {name: more for name, more in FEATURES.items() if options["only"] in ("", name)}
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as folder, ExitStack() as mirrors:
        plain = _trainer(overrides, Path(folder) / "plain", mirrors)
        others = [_trainer([*overrides, *more], Path(folder) / name, mirrors) for name, more in features.items()]
        base, saving = partial(_epoch, plain), partial(_save, plain)
        # A plain epoch before and after each: the machine's speed changes by the minute.
        timed = [_tracked_epoch if name == "tracking" else _epoch for name in features]
        between = [thing for how, trainer in zip(timed, others, strict=True) for thing in (partial(how, trainer), base)]
        first, saved, *measured = in_turn(options["pairs"], base, saving, *between)
        size = plain._path("last").stat().st_size
    report = Report("features", {"overrides": " ".join(overrides), "checkpoint": f"{size / 1e6:.1f} MB"})
    report.add("an epoch", "s", first)
    report.ratio("its checkpoints", saved, first)
    before = first
    for feature, values, after in zip(features, measured[::2], measured[1::2], strict=True):
        costs = [2 * value / (a + b) - 1 for value, a, b in zip(values, before, after, strict=True)]
        report.add(feature, "of an epoch", costs)
        before = after
    report.finish()


def _trainer(overrides: list[str], folder: Path, mirrors: ExitStack) -> Trainer:
    config = compose_config([*overrides, f"trainer.epochs={MANY_EPOCHS}"])
    folder.mkdir()
    write_config(folder / "config.yaml", config)
    observers = Observers()
    trainer = build_trainer(config, folder / "checkpoints", observers)
    observers.add(MetricsFile(folder / "metrics.jsonl", 0))
    mirrors.enter_context(mirroring(config, folder, "train"))
    return trainer


def _epoch(trainer: Trainer) -> float:
    """Seconds of another epoch, with a checkpoint at its end."""
    _set_switches(trainer._runtime, trainer._config.trainer.deterministic)  # they are the whole process's
    started = time.perf_counter()
    trainer._end_epoch(trainer._train_epoch(), trainer._validate())
    return time.perf_counter() - started


def _tracked_epoch(trainer: Trainer) -> float:
    """Seconds of an epoch beside which the one before is copied; its own is copied while nothing is timed."""
    _epoch(trainer)
    seconds = _epoch(trainer)
    time.sleep(2 * POLL_S)
    return seconds


def _save(trainer: Trainer) -> float:
    """Seconds of the checkpoints that an epoch better than all before leaves."""
    started = time.perf_counter()
    trainer.save("best")
    checkpoint.copy(trainer._path("best"), trainer._path("last"))
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1:])
