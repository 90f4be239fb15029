"""How rate and memory grow with the number of images, of classes, and with the image size.

    python -m benchmarks.growth [images=1000,10000,100000] [classes=10,100,1000] [sizes=64,128,256] [rounds=3] [any
        training override]

Each row is the training of a pack of random images in a process of its own, the rows of a table in turn: images/s of
some steps over the whole pack (the median of three epochs), and the process's anonymous memory after them (without
mapped files, which the system may drop at any time). Once they are packed, random images take as long as others;
packing is measured by `benchmarks.preprocess`. 2,000 images where their number is not what grows, ten classes, 64 px.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import MIB, Report, anonymous_bytes, run_process, split_options

if TYPE_CHECKING:
    from landuse.data.pack import Pack

STEPS = 12  # of an epoch; what is gathered is spread over the whole pack
EPOCHS = 3
CLASSES, SIZE, IMAGES = 10, 64, 2000


def main(arguments: list[str]) -> None:
    """Measure and report."""
    if arguments[:1] == ["row"]:
        print(json.dumps(row(*map(int, arguments[1:4]), arguments[4:])))
        return
    options, overrides = split_options(
        arguments, images="1000,10000,100000", classes="10,100,1000", sizes="64,128,256", rounds=3
    )
    tables = {
        "images": [(int(n), CLASSES, SIZE) for n in options["images"].split(",")],
        "classes": [(IMAGES, int(n), SIZE) for n in options["classes"].split(",")],
        "px": [(IMAGES, CLASSES, int(n)) for n in options["sizes"].split(",")],
    }
    report = Report("growth", {"overrides": " ".join(overrides)})
    for what, rows in tables.items():
        found: dict[int, list[dict[str, float]]] = {}
        for _ in range(options["rounds"]):
            for place, numbers in enumerate(rows):
                command = ["-m", "benchmarks.growth", "row", *map(str, numbers), *overrides]
                last = run_process(command).output.splitlines()[-1]
                found.setdefault(place, []).append(json.loads(last))
        for place, numbers in enumerate(rows):
            count = numbers[("images", "classes", "px").index(what)]
            rates = [one["rate"] for one in found[place]]
            report.add(f"{count:,} {what}", "images/s", rates)
            if what != "px":  # whose rate has to fall
                report.ratio(f"{count:,} {what} / the first row", rates, [one["rate"] for one in found[0]])
            report.add(f"memory at {count:,} {what}", "MiB", [one["anonymous"] / MIB for one in found[place]])
    report.finish()


def row(num_images: int, num_classes: int, size: int, overrides: list[str]) -> dict[str, float]:
    """Train on a pack of random images; the first epoch warms up."""
    from benchmarks.trainings import Nobody, compose_config
    from landuse.models.registry import build_model
    from landuse.training.device import build_runtime
    from landuse.training.loop import Trainer

    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        config = compose_config([f"data.image_size={size}", f"trainer.limit_train_batches={STEPS}", *overrides])
        pack = random_pack(Path(name), num_images, num_classes, size)
        model = build_model(config.model, num_classes, size)
        runtime = build_runtime(config.trainer.device, config.hardware, model, smallest_px=size)
        trainer = Trainer(config, runtime.place(model), pack, runtime, Path(name), Nobody())
        rates = []
        for epoch in range(EPOCHS + 1):
            trainer.state.epoch, trainer.state.step, trainer.state.loss_sum, trainer.state.num_images = epoch, 0, 0.0, 0
            started = time.perf_counter()
            trainer._train_epoch()
            rates.append(trainer.state.num_images / (time.perf_counter() - started))
        return {"rate": sorted(rates[1:])[EPOCHS // 2], "anonymous": anonymous_bytes()}


def random_pack(folder: Path, num_images: int, num_classes: int, size: int) -> "Pack":
    """A pack whose every split is the same random images."""
    import numpy as np

    from landuse.data.pack import Pack, PackedSplit

    class RandomPack(Pack):
        def split(self, name: str) -> PackedSplit:
            labels = np.arange(num_images) % num_classes
            return PackedSplit(name, np.load(path, mmap_mode="r"), labels, [f"{i}.png" for i in range(num_images)])

    draws, path = np.random.default_rng(0), folder / "images.npy"
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (num_images, size, size, 3))
    for start in range(0, num_images, 1000):
        images[start : start + 1000] = draws.integers(0, 256, images[start : start + 1000].shape, np.uint8)
    images.flush()
    counts = dict.fromkeys(("train", "val", "test"), num_images)
    names, half = [f"class{i}" for i in range(num_classes)], [0.5] * 3
    return RandomPack(folder, "random", names, size, half, half, counts, "0" * 64, "0" * 64, 0, {}, {})


if __name__ == "__main__":
    main(sys.argv[1:])
