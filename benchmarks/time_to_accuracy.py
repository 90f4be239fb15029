"""Seconds from the start of a process to a given test accuracy, in the spirit of cifar10-airbench.

    python -m benchmarks.time_to_accuracy [runs=5] [target=0.9] [experiment=ucmerced_fast] [any training override]

Trains a recipe of fixed length with `runs` seeds, each in a process of its own, from its start to its end; then opens
the test split, which takes seconds more that are reported apart. A recipe reaches the target if its mean does. The
images are packed before; that too is reported apart. `data.archive.url` and `data.split.files` say where they are.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import MIB, Report, run_process, split_options


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, overrides = split_options(arguments, runs=5, target=0.9, experiment="ucmerced_fast")
    accuracies: list[float] = []
    training: list[float] = []
    evaluation: list[float] = []
    peaks: list[float] = []
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        folder = Path(name)
        given = [f"experiment={options['experiment']}", f"data.home={folder / 'data'}", *overrides]
        packing = run_process(["-m", "landuse.preprocess", *given])
        for seed in range(options["runs"]):
            run = folder / f"seed{seed}"
            train = run_process(["-m", "landuse.train", *given, f"seed={seed}", f"hydra.run.dir={run}"])
            test = run_process(["-m", "landuse.evaluate", f"run={run}", f"data.home={folder / 'data'}"])
            training.append(train.seconds)
            evaluation.append(test.seconds)
            peaks.append(train.peak_bytes / MIB)
            accuracies.append(json.loads((run / "evaluation.json").read_text())["accuracy"])
    report = Report("time_to_accuracy", {"experiment": options["experiment"], "overrides": " ".join(overrides)})
    report.add("training", "s", training)
    report.add("opening the test split", "s", evaluation)
    report.add("packing, once", "s", [packing.seconds])
    report.add("test accuracy", "", accuracies)
    report.add("mean test accuracy", "", [statistics.mean(accuracies)])
    report.add(f"runs that reach {options['target']}", "", [sum(a >= options["target"] for a in accuracies)])
    report.add("memory of a training", "MiB", peaks)
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
