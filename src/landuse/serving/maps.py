"""Maps of large images: their tiles are answered through the lanes, a few at a time, and blended.

A process of its own decodes the image and cuts it (:mod:`landuse.serving.cutter`); the service itself holds the tiles
that are being answered, and the answers. There is one map at a time.
"""

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.config.schema import ServeConfig
from landuse.mapping.colours import class_colours
from landuse.mapping.plan import Axis, Grid, blend
from landuse.serving.artifact import ServedModel
from landuse.serving.lanes import UNAVAILABLE, UNBEARABLE, Lanes, Loaded
from landuse.serving.logs import event
from landuse.serving.messages import CutTiles, Opened, OpenScene
from landuse.serving.processes import Worker, WorkerLostError
from landuse.serving.refusal import Refusal, unusable

SMALLEST_TILE, LARGEST_TILE = 8, 4096  # pixels of an image
PREVIEW_PX = 1024
TILES_PER_LANE = 4  # of what is in the queue at once: as long other requests wait
PAUSE_S = 0.05  # before tiles that found the queue full are offered again
BAND_CELLS = 32  # rows of cells that are blended at once
MOST_CLASSES = 256  # that a byte tells apart


def tile_of(model: ServedModel) -> int:
    """Side of the images that the model was trained with, in their own pixels; where that is not known, its input's."""
    known = model.tile_size or 0
    return known if SMALLEST_TILE <= known <= LARGEST_TILE else model.image_size


class Maps:
    """Makes one map at a time."""

    def __init__(self, lanes: Lanes, settings: ServeConfig) -> None:
        self._lanes, self._settings = lanes, settings
        self._cutter: Worker | None = None

    @property
    def worker_pids(self) -> list[int]:
        """Of the process that cuts, while there is one."""
        pid = None if self._cutter is None else self._cutter.pid
        return [] if pid is None else [pid]

    def require_free(self) -> None:
        """
        Raises:
            Refusal: another map is being made (429).
        """
        if self._cutter is not None:
            raise Refusal(429, "Another image is being mapped: try again in some seconds.", 5)

    async def make(
        self, content: bytes, tile: int | None, stride: float, is_gone: Callable[[], Awaitable[bool]]
    ) -> tuple[dict[str, Any], Loaded]:
        """What the map says, but for the model's identity, and the model.

        Args:
            content: an image file.
            tile: side of what the model sees at once, in pixels of the image; None: :func:`tile_of` the model.
            stride: from one tile to the next, as a share of its side.
            is_gone: whether nobody waits for the map any more.

        Raises:
            Refusal: another map is being made, the image cannot be used or has too many tiles, the map took too long,
                or nobody waits for it.
        """
        loaded, started = self._lanes.loaded, time.perf_counter()
        if len(loaded.model.classes) > MOST_CLASSES:
            raise Refusal(422, f"The model has more than {MOST_CLASSES} classes, which are too many for a map.")
        side = tile or tile_of(loaded.model)
        async with self._cutting() as cutter:
            opened = await self._open(cutter, content, loaded.model)
            step = max(1, round(stride * side))
            _require_few(opened, side, step, self._settings.max_tiles)
            grid = Grid(Axis(opened.height, side, step), Axis(opened.width, side, step))
            answers = await self._answer(cutter, grid, loaded, is_gone)
        found = await asyncio.to_thread(_blended, grid, answers, loaded.model.classes)
        event("mapped", {"tiles": grid.num_windows, "ms": round(1e3 * (time.perf_counter() - started))})
        preview = "data:image/jpeg;base64," + _base64(opened.preview)
        size = {"width": opened.width, "height": opened.height}
        return size | {"tile": side, "stride": step, "tiles": grid.num_windows, **found, "preview": preview}, loaded

    @asynccontextmanager
    async def _cutting(self) -> AsyncIterator[Worker]:
        """A cutter, which ends with the map or with its time."""
        self.require_free()
        settings = self._settings
        cutter = self._cutter = Worker(2 * settings.deadline_s, "landuse.serving.cutter")
        try:
            async with asyncio.timeout(settings.map_deadline_s):
                yield cutter
        except TimeoutError:
            raise Refusal(
                503, "The map took longer than it may: send a smaller image, or ask for fewer tiles."
            ) from None
        except WorkerLostError as error:
            raise (UNBEARABLE if error.was_at_it else UNAVAILABLE) from error
        finally:
            try:
                await cutter.close()
            finally:
                self._cutter = None

    async def _open(self, cutter: Worker, content: bytes, model: ServedModel) -> Opened:
        limits = self._lanes.loaded.load.limits
        opened = await cutter.ask(OpenScene(content, model.value_range, limits, PREVIEW_PX))
        if isinstance(opened, Opened):
            return opened
        if isinstance(opened, tuple):
            raise unusable(*opened)
        raise RuntimeError(opened)  # the cutter's traceback

    async def _answer(
        self, cutter: Worker, grid: Grid, loaded: Loaded, is_gone: Callable[[], Awaitable[bool]]
    ) -> NDArray[np.float32]:
        """Probabilities of all windows, (rows, columns, C)."""
        num_columns, model = len(grid.columns.starts), loaded.model
        size = min(TILES_PER_LANE * self._lanes.num_lanes, self._settings.max_queue)
        groups = [
            (row, range(start, min(start + size, num_columns)))
            for row in range(len(grid.rows.starts))
            for start in range(0, num_columns, size)
        ]
        answers = np.empty((len(grid.rows.starts), num_columns, len(model.classes)), np.float32)

        def cut(number: int) -> asyncio.Task[Any]:
            asked = CutTiles(grid.rows.tile, grid.rows.stride, *groups[number], model.image_size)
            return asyncio.create_task(cutter.ask(asked))

        ahead = cut(0)
        try:
            for number, (row, columns) in enumerate(groups):
                tiles = await ahead
                if not isinstance(tiles, np.ndarray):
                    raise RuntimeError(tiles)
                if number + 1 < len(groups):
                    ahead = cut(number + 1)  # while these are answered
                answers[row, columns.start : columns.stop] = await self._ask(tiles, loaded)
                if await is_gone():
                    raise Refusal(400, "The connection ended before the map was complete.")
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        return answers

    async def _ask(self, tiles: NDArray[np.uint8], loaded: Loaded) -> list[NDArray[np.float32]]:
        while True:
            try:
                outcomes, _ = await self._lanes.answer(list(tiles), self._settings.deadline_s, loaded, is_watched=False)
            except Refusal as refusal:
                if refusal.status != 429:
                    raise
                await asyncio.sleep(PAUSE_S)  # those who asked for less come first
                continue
            answers = []
            for outcome in outcomes:
                if isinstance(outcome, Refusal):
                    raise outcome
                answers.append(outcome)
            return answers


def _require_few(opened: Opened, tile: int, stride: int, max_tiles: int) -> None:
    """Reckoned, for a list of millions of tiles would hold up all other requests."""

    def count(tile: int, stride: int) -> int:
        rows, columns = (math.ceil(max(side - tile, 0) / stride) + 1 for side in (opened.height, opened.width))
        return rows * columns

    if (number := count(tile, stride)) > max_tiles:
        share = stride / tile
        sides = range(tile, LARGEST_TILE + 1)
        fitting = next((side for side in sides if count(side, max(1, round(share * side))) <= max_tiles), None)
        larger = "" if fitting is None else f", ask for tiles of {fitting} pixels or more"
        raise Refusal(
            413,
            f"The image has {number:,} tiles of {tile} pixels, {stride} apart, of {max_tiles:,} at most: cut or shrink "
            f"it{larger}, or for a wider stride.",
        )


def _blended(grid: Grid, answers: NDArray[np.float32], classes: Sequence[str]) -> dict[str, Any]:
    """Classes, their shares, and which one each cell is of."""
    num_rows, num_columns = (len(axis.edges) - 1 for axis in (grid.rows, grid.columns))
    best, confidences = np.empty((2, num_rows, num_columns), np.uint8)
    for start in range(0, num_rows, BAND_CELLS):
        cells = slice(start, min(start + BAND_CELLS, num_rows))
        values = answers[grid.rows.windows_of(cells)]
        mean = blend(values, np.ones(values.shape[:2], np.float32), grid.rows, grid.columns, cells)
        best[cells] = mean.argmax(axis=2)
        confidences[cells] = np.rint(255 * np.clip(mean.max(axis=2), 0, 1))
    areas = np.outer(np.diff(grid.rows.edges), np.diff(grid.columns.edges)).astype(np.float64)
    shares = np.bincount(best.ravel(), weights=areas.ravel(), minlength=len(classes)) / areas.sum()
    order = [int(number) for number in np.argsort(-shares, kind="stable") if shares[number] > 0]
    places = np.zeros(MOST_CLASSES, np.uint8)
    places[order] = np.arange(len(order))
    colours = class_colours(classes, {})
    cells_of = {"rows": grid.rows.edges.tolist(), "columns": grid.columns.edges.tolist()}
    return {
        "classes": [{"class": classes[i], "share": float(shares[i]), "colour": colours[i]} for i in order],
        "cells": cells_of | {"classes": _base64(places[best].tobytes()), "confidences": _base64(confidences.tobytes())},
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
