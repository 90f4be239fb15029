"""How fast images are classified: the framework's prediction over a split, against bare forward passes.

    python -m benchmarks.evaluation [pairs=8] [any override, such as model=resnet18 evaluation.batch_size=32]

In turn and in one process: class probabilities of all training images as `landuse.evaluate` makes them (gathered,
normalised, forward, softmax, copied to the host), the same averaged over the eight symmetries, and the network alone on
tensors that lie on the device already.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import MIB, Report, anonymous_bytes, in_turn, split_options
from benchmarks.trainings import build_trainer, compose_config, wait
from landuse.data.augment import normalise
from landuse.training.batches import in_order
from landuse.training.inference import Predictor
from landuse.training.loop import Trainer

MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, overrides = split_options(arguments, pairs=8)
    config = compose_config(overrides)
    batch = config.evaluation.batch_size or config.trainer.batch_size
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, Path(folder))
        images, runtime = trainer._train_images, trainer._runtime
        one, eight = (Predictor(runtime, MEAN, STD, batch, symmetries) for symmetries in (False, True))

        bare_passes = _bare(trainer, batch)

        def rate(predict: Callable[[], object]) -> float:
            wait(trainer)
            started = time.perf_counter()
            predict()
            return images.num_images / (time.perf_counter() - started)

        bare, plain, averaged = in_turn(
            options["pairs"],
            lambda: rate(bare_passes),
            lambda: rate(lambda: one.probabilities(trainer.model, images)),
            lambda: rate(lambda: eight.probabilities(trainer.model, images)),
        )
    settings = {"model": config.model.name, "px": config.data.image_size, "batch": batch}
    report = Report("evaluation", {**settings, **runtime.describe()})
    report.add("bare forward passes", "images/s", bare)
    report.add("predictions", "images/s", plain)
    report.ratio("predictions / bare", plain, bare)
    report.add("averaged over eight", "images/s", averaged)
    report.add("memory", "MiB", [anonymous_bytes() / MIB])
    report.finish()


def _bare(trainer: Trainer, batch: int) -> Callable[[], None]:
    mean, std = (torch.tensor(values, device=trainer._runtime.device) for values in (MEAN, STD))
    images = trainer._train_images
    inputs = [normalise(images.gather(rows)[0], mean, std) for rows in in_order(images.num_images, batch)]

    @torch.inference_mode()
    def predict() -> None:
        trainer.model.eval()
        for batch_inputs in inputs:
            with trainer._runtime.autocast():
                logits = trainer.model(batch_inputs)
        logits.cpu()

    return predict


if __name__ == "__main__":
    main(sys.argv[1:])
