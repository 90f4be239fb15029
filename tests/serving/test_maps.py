"""Maps beside other requests, and what becomes of them when something fails, without HTTP around them."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from landuse.config.schema import ServeConfig
from landuse.data.limits import Limits
from landuse.serving.cutter import _Cutter
from landuse.serving.maps import Maps, tile_of
from landuse.serving.messages import CutTiles, Opened, OpenScene
from landuse.serving.refusal import Refusal
from landuse.serving.service import FORMATS
from tests.serving.images import encoded, saved
from tests.serving.test_fuzz import mutated
from tests.serving.test_lanes import named, started

LARGE = saved(Image.new("RGB", (360, 360), (40, 80, 150)), "PNG")  # 1,936 tiles


async def stays() -> bool:
    return False


async def has_left() -> bool:
    return True


@asynccontextmanager
async def mapping(folder: Path, **settings: Any) -> AsyncIterator[tuple[Maps, Callable[..., Awaitable[list[str]]]]]:
    """Maps of a service with two lanes, and what asks it about a single image."""
    async with started(folder, num_lanes=2, max_batch=4) as lanes:

        async def ask() -> list[str]:
            outcomes, loaded = await lanes.answer([encoded("roof")], 20)
            return named(outcomes, loaded.model.classes)

        yield Maps(lanes, ServeConfig(**settings)), ask


async def refused(made: Awaitable[object]) -> tuple[int, str]:
    with pytest.raises(Refusal) as raised:
        await made
    return raised.value.status, raised.value.message


def test_others_are_answered_meanwhile_and_other_maps_refused(exported: Path) -> None:
    async def ask() -> None:
        async with mapping(exported) as (maps, ask_one):
            making = asyncio.create_task(maps.make(LARGE, None, 0.5, stays))
            while not maps.worker_pids:
                await asyncio.sleep(0.01)
            for _ in range(10):
                assert await ask_one() == ["roof"]
            assert (await refused(maps.make(LARGE, None, 0.5, stays)))[0] == 429
            assert not making.done()
            found, _ = await making
            assert [entry["class"] for entry in found["classes"]] == ["water"]
            assert maps.worker_pids == []
            await maps.make(encoded(), None, 0.5, stays)

    asyncio.run(ask())


def test_map_that_nobody_waits_for_or_that_takes_too_long_is_given_up(exported: Path) -> None:
    async def ask() -> None:
        async with mapping(exported) as (maps, ask_one):
            assert (await refused(maps.make(LARGE, None, 0.5, has_left)))[0] == 400
            assert maps.worker_pids == []
            late = Maps(maps._lanes, ServeConfig(map_deadline_s=0.05))
            status, message = await refused(late.make(LARGE, None, 0.5, stays))
            assert status == 503 and "took longer" in message
            assert late.worker_pids == [] and await ask_one() == ["roof"]

    asyncio.run(ask())


def test_image_that_ends_what_cuts_it_ends_nothing_else(exported: Path) -> None:
    async def ask() -> None:
        async with mapping(exported) as (maps, ask_one):
            making = asyncio.create_task(maps.make(LARGE, None, 0.5, stays))
            while not maps.worker_pids:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # it has begun
            os.kill(maps.worker_pids[0], signal.SIGKILL)
            assert (await refused(making))[0] in (422, 503)  # at a message of its own, or between two
            assert await ask_one() == ["roof"]
            await maps.make(encoded(), None, 0.5, stays)

    asyncio.run(ask())


def test_tiles_wait_while_the_queue_is_full(exported: Path) -> None:
    async def ask() -> None:
        async with mapping(exported) as (maps, _):
            lanes = maps._lanes
            lanes._max_queue = 9  # the tiles of a group are eight
            many = [asyncio.create_task(lanes.answer([encoded("roof")] * 5, 20)) for _ in range(2)]
            found, _ = await maps.make(encoded("water", size_px=64), None, 0.5, stays)
            assert [entry["class"] for entry in found["classes"]] == ["water"]
            await asyncio.gather(*many)

    asyncio.run(ask())


def test_tile_is_that_of_the_training_images_where_it_is_known() -> None:
    def told(tile_size: int | None) -> int:
        return tile_of(SimpleNamespace(tile_size=tile_size, image_size=64))  # type: ignore[arg-type]

    assert told(256) == 256
    assert [told(unusable) for unusable in (None, 7, 4097)] == [64, 64, 64]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged files
def test_mutated_images_are_cut_or_refused() -> None:
    cutter, answered, refusals = _Cutter(), 0, set()
    for content in mutated(400, 0):
        opened = cutter.handle(OpenScene(content, None, Limits(FORMATS, 1_000_000), 64))
        if isinstance(opened, Opened):
            assert max(Image.open(io.BytesIO(opened.preview)).size) <= 64
            tiles = cutter.handle(CutTiles(32, 16, 0, range(1), 16))
            assert tiles.shape == (1, 16, 16, 3)
            answered += 1
        else:
            refusals.add(opened[0])
    assert answered > 20 and refusals == {413, 415, 422}
