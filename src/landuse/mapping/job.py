"""One scene, from file to map: plan, answers of the model, outputs."""

import hashlib
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse import progress
from landuse.addresses import named
from landuse.config.schema import MapConfig
from landuse.data.workers import num_workers
from landuse.mapping.classify import Classifier, classify
from landuse.mapping.describe import Asked, describe
from landuse.mapping.folders import PARTS
from landuse.mapping.ground import BLOCK
from landuse.mapping.parts import OpenPart, Part, Shard
from landuse.mapping.plan import Chunk
from landuse.mapping.scale import Scale, plan
from landuse.mapping.scene import Scene

log = logging.getLogger(__name__)

NO_CONTENT = (".xml", ".ovr")  # of files beside a scene: statistics and overviews, which GIS add


@dataclass(frozen=True)
class Work:
    """A scene, how it is cut, and what answers.

    Attributes:
        folder: of its map.
    """

    scene: Scene
    scale: Scale
    classifier: Classifier
    asked: MapConfig
    folder: Path

    @property
    def parts(self) -> Path:
        """The folder of what was answered."""
        return self.folder / PARTS

    @cached_property
    def block_areas(self) -> NDArray[np.float64] | None:
        """Square metres of a pixel of each block, as :meth:`landuse.mapping.ground.Ground.block_areas`.

        Of a scene that has no place on the ground they follow from ``map.gsd``; None: nobody knows.
        """
        scene, pixel_size = self.scene, self.scale.pixel_size
        if scene.ground is not None:
            return scene.ground.block_areas()
        if pixel_size is None:
            return None
        return np.full((-(-scene.height // BLOCK), -(-scene.width // BLOCK)), pixel_size[0] * pixel_size[1])

    def description(self) -> dict[str, Any]:
        """What answers depend on: parts are joined, and gone on with, only where all of it is the same."""
        scene, grid, model = self.scene, self.scale.grid, self.classifier.model
        return {
            "format": 1,
            "scene": _identity(scene),
            "size": [scene.width, scene.height],
            "crs": None if scene.crs is None else scene.crs.to_wkt(),
            "transform": scene.transform,
            "bands": list(scene.bands),
            "value_range": scene.value_range,
            "model": model.onnx_sha256,
            "classes": list(model.classes),
            "tile": [grid.rows.tile, grid.columns.tile],
            "stride": [grid.rows.stride, grid.columns.stride],
            "symmetries": self.asked.symmetries,
            "batch_size": self.asked.batch_size,
        }


def prepare(path: str, classifier: Classifier, asked: MapConfig, folder: Path) -> Work:
    """Open a scene and plan its windows; what a user should know of it is said.

    Raises:
        UserError: it cannot be read or mapped as asked.
    """
    model = classifier.model
    scene = describe(path, Asked(asked.bands, asked.value_range, model.value_range, asked.crs))
    scale = plan(scene, model, asked)
    work = Work(scene, scale, classifier, asked, folder)
    _say(work)
    return work


def run_shard(work: Work, shard: Shard) -> int:
    """Answer what is left of a shard; returns how many windows that were.

    Raises:
        UserError: as :func:`landuse.mapping.classify.classify`, or the folder holds parts of something else.
    """
    grid = work.scale.grid
    part = Part(work.parts, shard, grid, len(work.classifier.model.classes))
    with part.opened(work.description()) as opened:
        pending = opened.pending()
        if pending:
            part.require_device(work.classifier.device.partition(":")[0])
        num_done = sum(chunk.num_windows for chunk in part.chunks) - (left := sum(c.num_windows for c in pending))
        if not part.chunks:
            log.info("the scene has too few tiles for each shard: there are none for this one")
        if num_done and pending:
            log.info("going on    %s of %s tiles are there already", f"{num_done:,}", f"{num_done + left:,}")
        if pending:
            _answer(work, opened, pending, num_done, left)
    return left


def _answer(work: Work, part: OpenPart, pending: Sequence[Chunk], num_done: int, left: int) -> None:
    asked, scene = work.asked, work.scene
    num_threads = asked.num_workers or num_workers()
    started = time.perf_counter()
    with _counting(num_done, num_done + left) as on_chunk:
        classify(scene, work.scale.grid, work.classifier, part, pending, num_threads, asked.symmetries, on_chunk)
    seconds = time.perf_counter() - started
    log.info("classified  %s tiles in %.1f s, %.0f a second", f"{left:,}", seconds, left / seconds)


def _say(work: Work) -> None:
    scene, grid = work.scene, work.scale.grid
    size = "" if work.scale.pixel_size is None else f", {max(work.scale.pixel_size):.3g} m a pixel"
    place = "no place on the ground, so coordinates are pixels" if scene.transform is None else (
        scene.crs.to_string()[:80] if scene.crs is not None else "no coordinate system"
    )  # fmt: skip
    log.info(
        "scene       %s: %s x %s pixels%s, %s", named(scene.path), f"{scene.width:,}", f"{scene.height:,}", size, place
    )
    log.info("colours     bands %s, %s", " ".join(map(str, scene.bands)), scene.range_rule)
    log.info(
        "tiles       %s of %d x %d pixels, a stride of %d x %d", f"{grid.num_windows:,}", grid.columns.tile,
        grid.rows.tile, grid.columns.stride, grid.rows.stride,
    )  # fmt: skip
    for warning in work.scale.warnings:
        log.warning("%s", warning)


def _identity(scene: Scene) -> str:
    """What tells a scene from others, and from what it was before: size and time of all files that it consists of.

    Of addresses these themselves. Files that are copied to other machines keep their time with ``cp -p``.
    """
    if "://" in scene.path:
        return named(scene.path)
    states = [Path(name).stat() for name in scene.files if not name.lower().endswith(NO_CONTENT)]
    text = "".join(f"{state.st_size}:{state.st_mtime_ns};" for state in states)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _counting(num_done: int, total: int) -> Iterator[Any]:
    """Show how many tiles are done and how long the rest takes; yields what is to be told each chunk."""
    lock, begun, said_at, first = threading.Lock(), time.monotonic(), time.monotonic(), num_done
    before = "mapping"
    bar = (
        progress.Bar(before, "{task.completed:,.0f} of {task.total:,.0f} tiles", total) if sys.stderr.isatty() else None
    )

    def count(chunk: Chunk) -> None:
        nonlocal num_done, said_at
        with lock:
            num_done += chunk.num_windows
            if bar is not None:
                bar.update(num_done)
            elif time.monotonic() - said_at >= progress.LINE_EVERY_S:
                said_at = time.monotonic()
                left = (total - num_done) * (said_at - begun) / (num_done - first)
                log.info("%s of %s tiles, about %.0f s left", f"{num_done:,}", f"{total:,}", left)

    try:
        yield count
    finally:
        if bar is not None:
            bar.close()
