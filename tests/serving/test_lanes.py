"""Batches and what becomes of them when workers fail, without HTTP around them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from landuse.data.limits import Limits
from landuse.serving import lanes as module
from landuse.serving.artifact import read_served
from landuse.serving.lanes import Lanes, Loaded
from landuse.serving.messages import Load
from landuse.serving.refusal import Refusal
from landuse.serving.service import FORMATS
from tests.serving.images import encoded
from tests.serving.tiny_model import COLOURS, write_exported


def loaded_of(folder: Path, max_batch: int) -> Loaded:
    model, graph = read_served(folder)
    return Loaded(model, Load(model, graph, None, 1, max_batch, Limits(FORMATS, 1_000_000)), None)


@asynccontextmanager
async def started(folder: Path, num_lanes: int = 1, max_batch: int = 8) -> AsyncIterator[Lanes]:
    lanes = Lanes(loaded_of(folder, max_batch), num_lanes, max_batch, max_queue=4096, longest_s=5)
    await lanes.start()
    try:
        yield lanes
    finally:
        await lanes.close()


def named(outcomes: Sequence[object], classes: Sequence[str]) -> list[str]:
    return ["" if isinstance(one, Refusal) else classes[int(one.argmax())] for one in outcomes]  # type: ignore[attr-defined]


def test_batches_of_large_answers_are_given_ahead(tmp_path: Path) -> None:
    """More than a pipe holds, in both directions at once."""
    classes = [*COLOURS, *(f"class {i}" for i in range(3000))]
    folder, images = write_exported(tmp_path / "fp32", classes), [encoded("water", size_px=64, form="PNG")] * 64

    async def ask() -> list[list[str]]:
        async with started(folder, max_batch=64) as lanes:
            answers = await asyncio.gather(*(lanes.answer(images, 20) for _ in range(20)))
            return [named(outcomes, classes) for outcomes, _ in answers]

    assert asyncio.run(ask()) == [["water"] * 64] * 20


def test_an_image_is_not_blamed_for_a_worker_that_cannot_start(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)

    async def ask() -> tuple[list[object], list[object]]:
        async with started(exported) as lanes:
            real = sys.executable
            monkeypatch.setattr(sys, "executable", "/bin/false")
            os.kill(lanes.worker_pids[0], signal.SIGKILL)
            failed, _ = await lanes.answer([encoded("water")], 20)
            monkeypatch.setattr(sys, "executable", real)
            answered, _ = await lanes.answer([encoded("water")], 20)
            return list(failed), list(answered)

    failed, answered = asyncio.run(ask())
    assert [isinstance(one, Refusal) and one.status for one in failed] == [503]
    assert named(answered, tuple(COLOURS)) == ["water"]


def test_answers_are_those_to_the_images_while_workers_are_killed(exported: Path) -> None:
    names = [list(COLOURS)[i % 3] for i in range(300)]

    async def ask() -> list[str]:
        async with started(exported, num_lanes=2, max_batch=4) as lanes:

            async def one(name: str) -> str:
                outcomes, loaded = await lanes.answer([encoded(name)], 60)
                return named(outcomes, loaded.model.classes)[0]

            asking = [asyncio.create_task(one(name)) for name in names]
            for _ in range(3):
                await asyncio.sleep(0.02)
                for pid in lanes.worker_pids[:1]:
                    os.kill(pid, signal.SIGKILL)
            return await asyncio.gather(*asking)

    assert asyncio.run(ask()) == names


def test_a_model_that_cannot_be_exchanged_leaves_the_one_before(exported: Path, tmp_path: Path) -> None:
    other = loaded_of(write_exported(tmp_path / "fp32", ["field", "roof"]), 8)
    damaged = other.load._replace(graph=b"damaged")

    async def ask() -> list[list[str]]:
        async with started(exported, num_lanes=2) as lanes:
            with pytest.raises(Exception, match="cannot be run"):
                await lanes.exchange(Loaded(other.model, damaged, None))
            before, first = await lanes.answer([encoded("water")], 20)
            await lanes.exchange(other)
            after, second = await lanes.answer([encoded("roof")], 20)
            return [named(before, first.model.classes), named(after, second.model.classes), list(second.model.classes)]

    assert asyncio.run(ask()) == [["water"], ["roof"], ["field", "roof"]]
