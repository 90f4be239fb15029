"""Time and memory of a map, against the time that its model takes alone.

    python -m benchmarks.mapping run=PATH archive=UCMerced_LandUse.zip split=test.csv [side=20000] [stride=0.5]
        [pairs=3] [any override of the command map]

A scene of ``side`` x ``side`` pixels is mosaicked from images. In turn, the command maps it into a fresh folder, in a
process of its own, and the model answers as many tiles that are in memory already, in batches on all cores, as the
command asks it; with trainer.device=cuda both on the GPU.
"""

import json
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.measure import MIB, Report, in_turn, run_process, split_options
from benchmarks.scenes import GSD, SIDE, Tiles, write_scene
from landuse.mapping.classify import Classifier

POOL = 512  # different tiles that the model is asked about


def main(arguments: list[str]) -> None:
    """Measure and report."""
    if arguments[:1] == ["scene"]:
        write(Path(arguments[1]), Tiles(arguments[2], arguments[3]), int(arguments[4]))
        return
    options, overrides = split_options(
        arguments, run="outputs/latest", archive="", split="", side=20_000, stride=0.5, pairs=3
    )
    if not options["archive"] or not options["split"]:
        raise SystemExit("error: archive= and split= are missing, see the head of benchmarks/mapping.py")
    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        folder = Path(name)
        # In a process of its own: the memory of whoever starts a process counts as that process's peak.
        scene = [str(folder / "scene.tif"), options["archive"], options["split"], str(options["side"])]
        run_process(["-m", "benchmarks.mapping", "scene", *scene])
        measure(folder, options, overrides)


def measure(folder: Path, options: dict[str, object], overrides: list[str]) -> None:
    """Of the scene in the folder."""
    from benchmarks.trainings import compose_config
    from landuse.exports import find_exported, named_network
    from landuse.mapping.classifiers import open_classifier

    line = [f"run={options['run']}", f"map.stride={options['stride']}", f"map.tile_m={SIDE * GSD}", *overrides]
    config = compose_config([f"run={options['run']}", *overrides])
    classifier = open_classifier(
        find_exported(config), config.trainer.device, config.map.batch_size, named_network(config)
    )
    memory: list[float] = []
    stages: dict[str, list[float]] = {"classified": [], "written": []}
    facts: dict[str, object] = {}

    def map_scene() -> float:
        output = folder / "map"
        shutil.rmtree(output, ignore_errors=True)
        done = run_process(["-m", "landuse.map", f"input={folder / 'scene.tif'}", f"output={output}", *line])
        memory.append(done.peak_bytes / MIB)
        for stage, values in stages.items():
            (said,) = [row for row in done.output.splitlines() if row.startswith(stage)]
            values.append(float(said.partition(" in ")[2].split()[0]))
        facts.update(json.loads((output / "map.json").read_text()))
        return done.seconds

    def answer() -> float:
        return _answer(classifier, int(facts["windows"]["num"]))  # type: ignore[index]

    whole, alone = in_turn(int(options["pairs"]), map_scene, answer)  # type: ignore[call-overload]
    num, megapixels = facts["windows"]["num"], facts["scene"]["width"] * facts["scene"]["height"] / 1e6  # type: ignore[index]
    report = Report(
        "mapping", {"tiles": num, "megapixels": round(megapixels), **{k: options[k] for k in ("side", "stride")}}
    )
    report.add("the model alone", "tiles/s", [num / seconds for seconds in alone])
    report.add("map: tiles", "tiles/s", [num / seconds for seconds in stages["classified"][1:]])
    report.ratio("map: tiles / the model alone", alone, stages["classified"][1:])
    report.add("map: outputs", "s", stages["written"][1:])
    report.add("map: whole command", "s", whole)
    report.add("map: whole command", "megapixels/s", [megapixels / seconds for seconds in whole])
    report.ratio("whole command / the model alone", alone, whole)
    report.add("map: peak memory", "MiB", memory[1:])
    report.finish()


def write(path: Path, tiles: Tiles, side: int) -> None:
    """Rows of random tiles, cut to the size; a dozen of them over and over, so that no scene takes long to make."""
    draws = np.random.default_rng(0)
    across = -(-side // SIDE)
    rows = [
        np.concatenate([tiles.image(int(n)) for n in draws.integers(0, len(tiles.names), across)], axis=1)
        for _ in range(12)
    ]
    write_scene(path, [row[:, :side] for row in rows], repeats=max(1, round(side / SIDE / len(rows))))


def _answer(classifier: Classifier, num_tiles: int) -> float:
    """Seconds for so many tiles on all cores."""
    from landuse.data.workers import num_workers

    size, batch = classifier.model.image_size, classifier.batch_size
    pool = np.random.default_rng(0).integers(0, 256, (POOL, size, size, 3), np.uint8)
    starts = [start % (POOL - batch) for start in range(0, num_tiles, batch)]
    started = time.perf_counter()
    with ThreadPoolExecutor(num_workers()) as executor:
        list(executor.map(lambda start: classifier.probabilities(pool[start : start + batch]), starts))
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1:])
