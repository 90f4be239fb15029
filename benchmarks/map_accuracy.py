"""What maps of scenes with known truth get right: tile by tile, and near boundaries with and without overlap.

    python -m benchmarks.map_accuracy run=PATH archive=UCMerced_LandUse.zip split=test.csv [side=12] [scenes=3]

Two kinds of scenes of ``side`` x ``side`` test images each. In the first every image is another one, and windows lie
on them exactly (map.stride=1): the map has to say of each pixel what the model says of its image. In the second,
regions of 3 x 3 images are of one class and the windows lie anywhere on them, as in a real scene: pixels are right or
wrong by their region's class, all of them and those within half a tile of a boundary.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Report, run_process, split_options
from benchmarks.scenes import GSD, SIDE, Tiles, mosaic, write_scene

REGION = 3  # images along the side of a region
STRIDES = (1.0, 0.5, 0.25)


def main(arguments: list[str]) -> None:
    """Measure and report."""
    options, overrides = split_options(arguments, run="outputs/latest", archive="", split="", side=12, scenes=3)
    tiles = Tiles(options["archive"], options["split"])
    report = Report("map_accuracy", {key: options[key] for key in ("side", "scenes")})
    line = [f"run={options['run']}", f"map.tile_m={SIDE * GSD}", "map.polygons=off", *overrides]
    exact: dict[str, list[float]] = {"of the images": [], "of the map": []}
    found: dict[str, list[float]] = {}
    for seed in range(options["scenes"]):
        draws = np.random.default_rng(seed)
        numbers = draws.choice(
            len(tiles.names), (options["side"],) * 2, replace=options["side"] ** 2 > len(tiles.names)
        )
        _exact(tiles, numbers, line, options["run"], exact)
        _regions(tiles, options["side"], draws, line, found)
    for label, values in (exact | found).items():
        report.add(label, "", values)
    report.ratio("map / images", exact["of the map"], exact["of the images"])
    report.finish()


def _map(pixels: NDArray[np.uint8], line: list[str], stride: float) -> NDArray[np.uint8]:
    import rasterio

    with tempfile.TemporaryDirectory(prefix="landuse-bench-") as name:
        scene = Path(name, "scene.tif")
        write_scene(scene, [pixels])
        run_process(["-m", "landuse.map", f"input={scene}", f"output={name}/map", f"map.stride={stride}", *line])
        with rasterio.open(Path(name, "map", "classes.tif")) as file:
            classes: NDArray[np.uint8] = file.read(1)
    return classes


def _exact(tiles: Tiles, numbers: NDArray[np.int64], line: list[str], run: str, into: dict[str, list[float]]) -> None:
    from benchmarks.trainings import compose_config
    from landuse.exports import find_exported
    from landuse.mapping.tiles import resized
    from landuse.serving.engine import Engine

    pixels, truth = mosaic(tiles, numbers)
    engine = Engine(find_exported(compose_config([f"run={run}"])))
    size = engine.model.image_size
    said = [engine(resized(tiles.image(int(n)), size, size)[None]).probabilities[0].argmax() for n in numbers.ravel()]
    into["of the images"].append(float((np.array(said) == truth.ravel()).mean()))
    classes = _map(pixels, line, 1.0)
    into["of the map"].append(float((classes == truth.repeat(SIDE, axis=0).repeat(SIDE, axis=1)).mean()))


def _regions(
    tiles: Tiles, side: int, draws: np.random.Generator, line: list[str], into: dict[str, list[float]]
) -> None:
    numbers = np.empty((side, side), np.int64)
    for row in range(0, side, REGION):
        for column in range(0, side, REGION):
            place = numbers[row : row + REGION, column : column + REGION]
            members: Any = tiles.of_class(str(draws.choice(tiles.classes)))
            place[:] = draws.choice(members, place.shape, replace=place.size > len(members))
    pixels, classes = mosaic(tiles, numbers)
    truth = classes.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    top, left = draws.integers(SIDE // 4, SIDE, 2)  # windows begin anywhere
    pixels, truth = pixels[top:, left:], truth[top:, left:]
    near = _near_boundary(truth)
    for stride in STRIDES:
        is_right = _map(pixels, line, stride) == truth
        into.setdefault(f"regions, stride {stride:g}: all pixels", []).append(float(is_right.mean()))
        into.setdefault(f"regions, stride {stride:g}: near boundaries", []).append(float(is_right[near].mean()))


def _near_boundary(truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Within half a tile of another class, straight across, up or down."""
    near, half = np.zeros(truth.shape, bool), SIDE // 2
    for axis in (0, 1):
        changes = np.insert(np.diff(truth, axis=axis) != 0, 0, False, axis=axis)
        before = np.cumsum(changes, axis=axis)
        last = truth.shape[axis] - 1
        after, until = np.minimum(np.arange(last + 1) + half, last), np.maximum(np.arange(last + 1) - half, 0)
        near |= np.take(before, after, axis) > np.take(before, until, axis)
    return near


if __name__ == "__main__":
    main(sys.argv[1:])
