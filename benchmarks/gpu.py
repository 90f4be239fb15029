"""What an NVIDIA GPU is measured by, one after the other.

    python -m benchmarks.gpu [pairs=8] [size=224] [batch=64] [per_class=100] [epochs=10] [workers=16] [device=cuda]
        [models=cnn,resnet18,resnet50] [variants=resident,from_host,compiled] [archive=UCMerced_LandUse.zip]
        [lists=FOLDER] [any training override]

Each network's loop against bare steps, with the dataset in the GPU's memory, with the dataset in the host's, and
compiled; a whole run against a DataLoader with so many workers; and, given the archive and the AiTLAS arena's lists,
the time to 90 % on the test split. Each is a benchmark of its own, whose table is shown here and whose JSON goes to a
folder of its own below `outputs/benchmarks/gpu/`.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import run_process, split_options

MODELS = "cnn,resnet18,resnet50"
VARIANTS = {
    "resident": ["hardware.dataset_on_device=true"],
    "from_host": ["hardware.dataset_on_device=false"],
    "compiled": ["hardware.dataset_on_device=true", "hardware.compile=true"],
}
IN_ARCHIVE = 80  # images of each class that a whole run takes


def main(arguments: list[str]) -> None:
    """Run them all; one that fails is told, and the others run."""
    options, overrides = split_options(
        arguments, pairs=8, size=224, batch=64, per_class=100, epochs=10, workers=16, device="cuda",
        models=MODELS, variants=",".join(VARIANTS), archive="", lists="",
    )  # fmt: skip
    failed = []
    for name, command in _commands(options, overrides).items():
        folder = Path("outputs", "benchmarks", "gpu", name)
        shutil.rmtree(folder, ignore_errors=True)  # or an old result passes for the new one
        folder.mkdir(parents=True)
        print(f"\n{name}: python -m {' '.join(command)}", flush=True)
        try:
            print(run_process(["-m", *command], folder).output, flush=True)
        except RuntimeError as error:
            print(error, flush=True)
            failed.append(name)
    if not (options["archive"] and options["lists"]):
        print("The time to accuracy needs archive= and lists=.")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


def _commands(options: dict[str, Any], overrides: list[str]) -> dict[str, list[str]]:
    pairs, device = f"pairs={options['pairs']}", f"trainer.device={options['device']}"
    loop = [
        pairs, device, f"data.image_size={options['size']}", f"trainer.batch_size={options['batch']}",
        f"data.synthetic.images_per_class={options['per_class']}",
        f"data.home={_resolved('outputs/benchmarks/gpu/data')}", *overrides,
    ]  # fmt: skip
    commands = {
        f"{model}_{variant}": ["benchmarks.training", f"model={model}", *loop, *VARIANTS[variant]]
        for model in options["models"].split(",")
        for variant in options["variants"].split(",")
    }
    whole = [f"{key}={options[key]}" for key in ("pairs", "size", "epochs", "workers", "device")]
    whole.append(f"per_class={min(IN_ARCHIVE, options['per_class'])}")
    if options["archive"]:
        whole.append(f"archive={_resolved(options['archive'])}")
    commands["whole_run"] = ["benchmarks.whole_run", *whole, *overrides]
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
