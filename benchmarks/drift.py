"""How often drift is raised without a reason, and after how many images with one.

    python -m benchmarks.drift run=<run folder> [home=data] [other=<EuroSAT_RGB.zip>] [severity=3] [orders=20]

The exported model of a run (made where it is missing) answers for the test images of the run, which neither its
training nor its reference has seen: as they are, in 100 random windows of 200, which overlap, for all are drawn from
the same test images; corrupted, in a window that grows from drift.min_images to 200 images until there is an alarm, in
several random orders; and likewise for the images as they are, and for images of another sensor out of an archive.
Accuracies are of all test images; "inf": no alarm. Measured 2026-11 with the settings of drift.* as they come, 50
images being the fewest that are compared, UC Merced (slim_resnet, 128 px, AiTLAS split, 420 test images), a reference
of 315 images:

    windows without alarm    100 of 100; accuracy 93.3 %
                             severity 3: images until alarm    accuracy     severity 1: images until alarm    accuracy
                             median (least to most)                         median (least to most)
    clean                     inf                              93.3 %        inf                              93.3 %
    blur                      50                               41.7 %        50                               87.1 %
    brightness                50                               81.9 %        50                               92.9 %
    noise                     50                               31.9 %        50                               92.1 %
    jpeg                      50                               93.3 %        50                               92.9 %
    colour cast               50                               68.6 %        67.5 (50 to 115)                 90.2 %
    haze                      50                               84.5 %        55 (50 to 100)                   92.9 %
    resolution                50                               93.6 %        50                               93.8 %
    another sensor (EuroSAT)  50                               -
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Report, split_options
from landuse import runs
from landuse.config import compose
from landuse.config.schema import DriftConfig
from landuse.data.decode import decode
from landuse.data.pack import prepare
from landuse.exports import find_exported
from landuse.monitoring import REFERENCE_FILE
from landuse.monitoring.corruptions import CORRUPTIONS
from landuse.monitoring.detect import compare
from landuse.monitoring.reference import Reference, Rows, load
from landuse.serving.engine import Engine

NUM_WINDOWS = 100
STEP = 5  # images that the growing window grows by
AT_ONCE = 32
NUM_OTHERS = 400  # images of another sensor


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, _ = split_options(arguments, run="outputs/latest", home="data", other="", severity=3, orders=20)
    config = compose.from_tree(runs.read_config(Path(options["run"])))
    config.run, config.data.home, config.data.max_images = options["run"], options["home"], None
    folder = find_exported(config)
    engine = Engine(folder, max_batch=AT_ONCE)
    reference, settings = load(folder / REFERENCE_FILE, len(engine.model.classes), engine.num_features), DriftConfig()
    test = prepare(config.data).split("test")
    draws = np.random.default_rng(0)

    def answer(images: NDArray[np.uint8]) -> Rows:
        parts = [engine(np.ascontiguousarray(images[i : i + AT_ONCE])) for i in range(0, len(images), AT_ONCE)]
        probabilities = np.concatenate([part.probabilities for part in parts])
        features = np.concatenate([part.features for part in parts])
        return reference.rows_of(images, probabilities, features)

    def alarms(rows: Rows) -> list[float]:
        orders = (draws.permutation(len(rows.confidence)) for _ in range(options["orders"]))
        return [images_until_alarm(reference, _of(rows, order), settings) for order in orders]

    def accuracy(rows: Rows) -> list[float]:
        return [float(np.mean(rows.predicted == test.labels))]

    window = min(settings.window, len(test) // 2)
    report = Report("drift", {"run": options["run"], "severity": options["severity"], "alpha": settings.alpha,
                              "window": window, "reference": len(reference.rows.confidence)})  # fmt: skip
    rows = answer(np.asarray(test.images))
    windows = [_of(rows, draws.choice(len(test), window, replace=False)) for _ in range(NUM_WINDOWS)]
    silent = [compare(reference, some, settings.alpha)["state"] == "ok" for some in windows]
    report.add("windows without alarm", f"of {NUM_WINDOWS}", [sum(silent)])
    report.add("accuracy", "", accuracy(rows))
    report.add("clean: until alarm", "images", alarms(rows))
    for name, corrupt in CORRUPTIONS.items():
        rows = answer(corrupt(np.asarray(test.images), options["severity"], np.random.default_rng(0)))
        report.add(f"{name}: until alarm", "images", alarms(rows))
        report.add(f"{name}: accuracy", "", accuracy(rows))
    if options["other"]:
        others = answer(_others(Path(options["other"]), engine.model.image_size))
        report.add("another sensor: until alarm", "images", alarms(others))
    report.finish()


def images_until_alarm(reference: Reference, rows: Rows, settings: DriftConfig) -> float:
    """Size of the growing window at its first alarm; infinite where there is none in a whole window."""
    for size in range(settings.min_images, min(settings.window, len(rows.confidence)) + 1, STEP):
        if compare(reference, _of(rows, np.arange(size)), settings.alpha)["state"] == "drift":
            return size
    return float("inf")


def _of(rows: Rows, chosen: NDArray[np.int64]) -> Rows:
    return Rows(*[values[chosen] for values in rows])


def _others(archive: Path, size_px: int) -> NDArray[np.uint8]:
    """A seeded choice of an archive's images, as the model sees them."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.lower().endswith((".jpg", ".tif", ".png")))
        chosen = np.random.default_rng(0).permutation(len(names))[:NUM_OTHERS]
        return np.stack([decode(file.read(names[i]), names[i], size_px).pixels for i in chosen])


if __name__ == "__main__":
    main(sys.argv[1:])
