"""Scenes on servers: read by parts over HTTP, and from a bucket."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from landuse.errors import UserError
from landuse.mapping.describe import Asked, describe
from tests.data.site import Answer, Handler, Site, status
from tests.mapping.scenes import write

PICTURE = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return write(tmp_path / "scene.tif", PICTURE, tiled=True, blockxsize=256, blockysize=256).read_bytes()


def ranged(content: bytes) -> Answer:
    """The range that is asked for."""

    def answer(handler: Handler) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        first, last = (int(found[1]), int(found[2] or len(content) - 1)) if found else (0, len(content) - 1)
        part = content[first : last + 1]
        headers = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"} if found else {}
        handler.head(206 if found else 200, Content_Length=len(part), **headers, Accept_Ranges="bytes")
        handler.wfile.write(part)

    return answer


def num_bytes(site: Site) -> int:
    """That were asked for; the first request is for the size, and ends when the answer begins."""
    ranges = [re.findall(r"\d+", seen.range) for seen in site.seen if seen.range]
    return sum(int(last) - int(first) + 1 for first, last in ranges)


def test_a_part_of_a_scene_is_fetched_alone(site: Site, content: bytes) -> None:
    scene = describe(site.has("/scene.tif", ranged(content)), Asked())
    with scene.opened() as reader:
        colours = reader.read(slice(300, 400), slice(600, 700)).colours
    assert (colours == PICTURE[300:400, 600:700]).all()
    assert 0 < num_bytes(site) < len(content) / 2
    assert {seen.path for seen in site.seen} == {"/scene.tif"}  # no look around in its folder


def test_an_object_in_a_bucket(site: Site, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an account, as public objects are read; the emulator's address is that of Google's own libraries."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GS_OAUTH2_REFRESH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", site.url)
    site.has("/images/north/scene.tif", ranged(content))
    scene = describe("gs://images/north/scene.tif", Asked())
    with scene.opened() as reader:
        assert (reader.read(slice(0, 50), slice(0, 50)).colours == PICTURE[:50, :50]).all()
    assert not any("Authorization" in seen.headers for seen in site.seen)


@pytest.mark.parametrize("code", [403, 404])
def test_what_is_not_there(site: Site, code: int) -> None:
    with pytest.raises(UserError, match=rf"/no-{code}.tif cannot be read.*out of reach") as caught:
        describe(site.has(f"/no-{code}.tif", status(code)) + "?token=secret", Asked())
    assert "secret" not in str(caught.value)


def test_a_server_that_is_gone() -> None:
    with Site() as site:
        address = site.url + "/gone.tif"
    with pytest.raises(UserError, match="cannot be read"):
        describe(address, Asked())
