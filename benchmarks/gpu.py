"""What an NVIDIA GPU is measured by, one after the other.

    python -m benchmarks.gpu [pairs=8] [size=224] [batch=64] [workers=16] [device=cuda] [archive=UCMerced_LandUse.zip]
        [lists=FOLDER] [variants=resident,from_host,compiled] [any training override]

Each network's loop against bare steps with the dataset in the GPU's memory, with the dataset in the host's, and
compiled; a whole run against a DataLoader with so many workers; and, given the archive and the arena's lists, the time
to 90 % on the test split. Each is a benchmark of its own, whose table is shown here and whose JSON goes to a folder of
its own below `outputs/benchmarks/gpu/`.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import run_process, split_options

MODELS = ("cnn", "resnet18", "resnet50")
VARIANTS = {
    "resident": ["hardware.dataset_on_device=true"],
    "from_host": ["hardware.dataset_on_device=false"],
    "compiled": ["hardware.dataset_on_device=true", "hardware.compile=true"],
}
IMAGES_PER_CLASS = 1000  # of ten classes, six tenths to train on
IN_ARCHIVE = 80  # images of each class that a whole run takes


def main(arguments: list[str]) -> None:
    """Run them all; one that fails is told, and the others run."""
    options, overrides = split_options(
        arguments, pairs=8, size=224, batch=64, workers=16, device="cuda", archive="", lists="",
        per_class=IMAGES_PER_CLASS, epochs=10, variants=",".join(VARIANTS),
    )  # fmt: skip
    failed = 0
    for name, command in _commands(options, overrides).items():
        folder = Path("outputs", "benchmarks", "gpu", name)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"\n{name}: python -m {' '.join(command)}", flush=True)
        try:
            print(run_process(["-m", *command], folder).output, flush=True)
        except RuntimeError as error:
            print(error, flush=True)
            failed += 1
    if failed:
        sys.exit(f"{failed} of them failed.")


def _commands(options: dict[str, Any], overrides: list[str]) -> dict[str, list[str]]:
    pairs, device = f"pairs={options['pairs']}", f"trainer.device={options['device']}"
    loop = [
        pairs, device, f"data.image_size={options['size']}", f"trainer.batch_size={options['batch']}",
        f"data.synthetic.images_per_class={options['per_class']}",
        f"data.home={_resolved('outputs/benchmarks/gpu/data')}", *overrides,
    ]  # fmt: skip
    commands = {
        f"{model}_{variant}": ["benchmarks.training", f"model={model}", *loop, *VARIANTS[variant]]
        for model in MODELS
        for variant in str(options["variants"]).split(",")
    }
    archive = [f"archive={_resolved(options['archive'])}"] if options["archive"] else []
    whole = [pairs, *(f"{key}={options[key]}" for key in ("size", "epochs", "workers")), *archive, device]
    commands["whole_run"] = [
        "benchmarks.whole_run",
        *whole,
        f"per_class={min(IN_ARCHIVE, int(options['per_class']))}",
        *overrides,
    ]
    if options["archive"] and options["lists"]:
        places = [
            f"data.archive.url=file://{_resolved(options['archive'])}",
            f"data.split.files={_resolved(options['lists'])}",
        ]
        commands["time_to_accuracy"] = ["benchmarks.time_to_accuracy", *places, device, *overrides]
    return commands


def _resolved(path: str) -> Path:
    return Path(path).resolve()  # the benchmarks run in folders of their own


if __name__ == "__main__":
    main(sys.argv[1:])
