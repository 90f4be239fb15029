"""How fast images are packed, against what the cores can decode and resize, and how much memory that takes.

    python -m benchmarks.preprocess [counts=1000,10000,100000] [tile=64] [size=64] [pairs=3] [archive=...]
        [any override]

Cuts as many JPEG tiles as each count says out of the images of an archive (or of the embedded dataset), then runs in
turn, each in a process of its own: threads that decode and resize them and keep nothing, and `landuse.preprocess`. A
third run finds everything unchanged. Memory is the process's peak resident set, mapped files included.

Measured 2026-11 on two Xeon cores, tiles cut from UC Merced. Decoding within packing keeps up with decoding alone: it
has 1.4 times its rate at 64 px, where threads get into each other's way and packing takes processes, and 0.90 from 256
to 128 px. What remains to the ratios below: starting processes (0.5 s), the search for duplicates (0.15 s among 10,000
and 4 s among 100,000 images), writing the splits and waiting for the disk to have them (0.9 s for 490 MB).

    images    from/to px   decode/s   packed/s   ratio   whole command   unchanged   peak memory (the report's figures)
    1,000     64/64        7,105      3,333      0.47    1.6 s           0.48 s      567 MiB
    10,000    64/64        7,268      5,263      0.72    3.4 s           0.51 s      567 MiB
    100,000   64/64        7,266      5,181      0.72    23.2 s          0.89 s      567 MiB
    10,000    256/128      2,241      1,613      0.72    7.6 s           0.52 s      569 MiB
"""

import io
import itertools
import os
import random
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import MIB, Report, run_process, split_options
from landuse.data.synthetic import CLASSES, draw_scene

NUM_CLASSES = 20


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, overrides = split_options(
        arguments, counts="1000,10000,100000", tile=64, size=64, pairs=3, archive="", decode=""
    )
    if options["decode"]:
        print(decode_all(Path(options["decode"]), options["size"]))
        return
    report = Report("preprocess", {key: options[key] for key in ("tile", "size")} | {"overrides": " ".join(overrides)})
    for count in map(int, options["counts"].split(",")):
        with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
            root = Path(name) / "images"
            write_tiles(root, count, options["tile"], options["archive"] or None)
            measure(report, root, Path(name), count, options["size"], options["pairs"], overrides)
    report.finish()


def measure(report: Report, root: Path, folder: Path, count: int, size: int, pairs: int, overrides: list[str]) -> None:
    """The rows of so many images."""
    found: dict[str, list[float]] = {what: [] for what in ("decoded", "packed", "whole", "unchanged", "peak")}
    for pair in range(pairs):
        alone = run_process(["-m", "benchmarks.preprocess", f"decode={root}", f"size={size}"])
        found["decoded"].append(count / float(alone.output))
        pack = ["data=folder", f"data.root={root}", f"data.home={folder}/home{pair}", f"data.image_size={size}"]
        process = run_process(["-m", "landuse.preprocess", *pack, *overrides])
        told = re.search(r"packed in ([\d.]+) s", process.output)
        assert told is not None, process.output
        found["packed"].append(count / float(told[1]))
        found["whole"].append(process.seconds)
        found["peak"].append(process.peak_bytes / MIB)
        found["unchanged"].append(run_process(["-m", "landuse.preprocess", *pack, *overrides]).seconds)
    images = f"{count:,} images"
    report.add(f"{images}, decoded and resized alone", "images/s", found["decoded"])
    report.add(f"{images}, packed", "images/s", found["packed"])
    report.ratio(f"{images}, packed / decoded", found["packed"], found["decoded"])
    report.add(f"{images}, the whole command", "s", found["whole"])
    report.add(f"{images}, the whole command, unchanged", "s", found["unchanged"])
    report.add(f"{images}, memory", "MiB", found["peak"])


def decode_all(root: Path, size: int) -> float:
    """Seconds in which the cores read, decode and resize all images below ``root`` and keep none."""
    paths = sorted(root.rglob("*.jpg"))

    def decode(part: list[Path]) -> None:
        for path in part:
            with Image.open(io.BytesIO(path.read_bytes())) as image:
                np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))

    parts = [paths[i : i + 32] for i in range(0, len(paths), 32)]
    started = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        list(executor.map(decode, parts))
    return time.perf_counter() - started


def write_tiles(root: Path, count: int, side: int, archive: str | None) -> None:
    """Tiles of so many pixels (64, or a multiple of 128), of random photographs at random places and brightness."""
    draws = random.Random(0)
    photographs = list(_photographs(archive))
    part = min(side, 128)  # larger ones are put together, or most would show what another one shows
    for i in range(count):
        tile = Image.new("RGB", (side, side))
        for left, top in itertools.product(range(0, side, part), repeat=2):
            image = draws.choice(photographs)
            x, y = (draws.randrange(length - part + 1) for length in image.size)
            tile.paste(image.crop((x, y, x + part, y + part)), (left, top))
        percent = draws.randint(70, 130)
        tile = tile.point([min(255, v * percent // 100) for v in range(256)] * 3)
        path = root / f"class{i % NUM_CLASSES:02d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        tile.save(path, quality=90)


def _photographs(archive: str | None) -> Iterator[Image.Image]:
    if archive is None:
        for name in CLASSES:
            for number in range(10):
                yield Image.fromarray(draw_scene(name, 0, number, 256))
        return
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.lower().endswith((".jpg", ".tif", ".png"))]
        for name in names:
            yield Image.open(io.BytesIO(file.read(name))).convert("RGB")


if __name__ == "__main__":
    main(sys.argv[1:])
