"""The map's page: as a document, and in a real browser as people use it."""

import base64
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from landuse.mapping.page import write_map_page
from tests.mapping.maps import COLOURS, facts_of
from tests.pages import Page
from tests.serving.browser import CHROMIUM, Browser

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def small_map() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """80 x 120: river above, forest below, unclassified in the right quarter, no data in the lower left corner."""
    classes = np.zeros((80, 120), np.uint8)
    classes[:40], classes[:, 90:], classes[70:, :20] = 1, 254, 255
    confidence = np.full(classes.shape, 0.9, np.float32)
    confidence[:40], confidence[classes == 254], confidence[classes == 255] = 0.6, 0.3, np.nan
    return np.full((80, 120, 3), 120, np.uint8), classes, confidence


def written(folder: Path, **changes: Any) -> Path:
    scene, classes, confidence = small_map()
    facts = facts_of(classes)
    facts["scene"] |= {"width": 1200, "height": 800}
    return write_map_page(scene, classes, confidence, facts | changes, folder / "map.html")


def test_the_page_needs_and_allows_nothing_but_itself(tmp_path: Path) -> None:
    path = written(tmp_path)
    text, page = path.read_text(encoding="utf-8"), Page(path)
    policy = next(meta["content"] for meta in page.attributes("meta") if "http-equiv" in meta) or ""
    for tag, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        (content,) = re.findall(pattern, text, re.DOTALL)
        checksum = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{checksum}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not any(
        "style" in attributes or any(key.startswith("on") for key in attributes) for _, attributes in page.tags
    )
    assert all((image["src"] or "").startswith("data:image/") for image in page.attributes("img"))
    addresses = [
        attributes[key] or "" for _, attributes in page.tags for key in ("href", "src", "srcset") if key in attributes
    ]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text) is None
    identifiers = re.findall(r"\bid=\"([\w-]+)\"", text)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r"\$\(\"([\w-]+)\"\)", text)) <= set(identifiers)


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    _, classes, _ = small_map()
    facts = facts_of(classes, names=("forest", HOSTILE, "c"))
    facts["scene"]["path"] = f"scenes/{HOSTILE}.tif"
    path = written(tmp_path, **facts | {"warnings": [HOSTILE], "correction": HOSTILE})
    page = Page(path)
    assert len(page.attributes("script")) == 2 and len(page.attributes("img")) == 2
    assert HOSTILE in page.text
    assert data_of(path)["classes"][1]["name"] == HOSTILE


def test_without_scripts_the_map_and_its_numbers_are_there(tmp_path: Path) -> None:
    page = Page(written(tmp_path, warnings=["Mind this."]))
    scene, overlay = page.attributes("img")
    assert "valley.tif" in (scene["alt"] or "") and "river, forest" in (scene["alt"] or "")
    image = Image.open(io.BytesIO(base64.b64decode((overlay["src"] or "").partition(",")[2]))).convert("RGBA")
    assert image.size == (120, 80)
    assert image.getpixel((5, 5)) == (*bytes.fromhex(COLOURS[1][1:]), 255)
    assert image.getpixel((5, 75)) == (0, 0, 0, 0)
    assert "Mind this." in page.text and "no data" in page.text
    for words in ("36.0", "32.4", "28.8 to 36.0", "the confusion of 210 test images", "EPSG:32633", "256 × 256 pixels"):
        assert words in page.text, words
    hidden = [attributes.get("id") for _, attributes in page.tags if "hidden" in attributes]
    assert {"controls", "some", "reading", "confidence-legend"} <= set(hidden)  # what only a script could move


def test_without_place_or_correction_areas_are_shares_as_counted(tmp_path: Path) -> None:
    _, classes, _ = small_map()
    facts = facts_of(classes, None, None)
    for entry in facts["areas"]:
        entry |= dict.fromkeys(f"{kind}_{unit}" for kind in ("corrected", "low", "high") for unit in ("ha", "share"))
    page = Page(written(tmp_path, **facts | {"correction": None}))
    assert "are not corrected" in page.text and "no place on the ground" in page.text
    assert "Interval" not in page.text and "ha" not in re.findall(r"\bha\b", page.text)


def test_many_classes_are_kept_in_sixteen_bits(tmp_path: Path) -> None:
    scene, _, confidence = small_map()
    classes = np.full((80, 120), 300, np.uint16)
    facts = facts_of(classes) | {"nodata": 65535, "unclassified": 65534}
    facts["classes"] = [{"value": i, "name": f"c{i}", "colour": "#102030"} for i in range(400)]
    facts["areas"] = [facts["areas"][0] | {"value": 300, "class": "c300", "pixels": 9600}]
    page = Page(write_map_page(scene, classes, confidence, facts, tmp_path / "map.html"))
    image = Image.open(io.BytesIO(base64.b64decode((page.attributes("img")[1]["src"] or "").partition(",")[2])))
    assert image.convert("RGBA").getpixel((0, 0)) == (16, 32, 48, 255)


def test_a_large_map_stays_small_enough_to_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landuse.mapping.page.MAX_JPEG", 60_000)
    monkeypatch.setattr("landuse.mapping.page.MAX_CONFIDENCE", 10_000)
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 255, (250, 251, 3)).astype(np.uint8)
    confidence = generator.random((250, 251), dtype=np.float32)
    classes = np.zeros((250, 251), np.uint8)
    path = write_map_page(scene, classes, confidence, facts_of(classes), tmp_path / "map.html")
    content = data_of(path)["confidence"]
    assert len(content["values"]) <= 10_000 and content["step"] == 4 and content["columns"] == 63
    values = np.frombuffer(zlib.decompress(base64.b64decode(content["values"])), np.uint8).reshape(-1, 63)
    assert values / 254 == pytest.approx(confidence[::4, ::4], abs=0.002)
    assert len(Page(path).attributes("img")[0]["src"] or "") <= 90_000


def data_of(path: Path) -> dict[str, Any]:
    """What the script reads."""
    (text,) = re.findall(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def opened(browser: Browser, path: Path, **appearance: Any) -> None:
    browser.open(path.as_uri(), **appearance)
    browser.wait_for("document.querySelector('#layers canvas') && document.querySelector('.legend button[data-value]')")


def mouse(browser: Browser, x: float, y: float, kind: str = "mouseMoved", **more: Any) -> None:
    """At a place of the map, in shares of its view."""
    box = browser.evaluate(
        "(({ x, y }) => [x + view.clientLeft, y + view.clientTop, view.clientWidth, view.clientHeight])"
        "(view.getBoundingClientRect())"
    )
    browser.call("Input.dispatchMouseEvent", type=kind, x=box[0] + x * box[2], y=box[1] + y * box[3], **more)


def pixel(browser: Browser, x: int, y: int) -> list[int]:
    """RGBA of the overlay."""
    expression = f"""(() => {{
        const context = new OffscreenCanvas(1, 1).getContext("2d", {{ willReadFrequently: true }});
        context.drawImage(document.querySelector("canvas"), {-x}, {-y});
        return [...context.getImageData(0, 0, 1, 1).data];
    }})()"""
    return [int(value) for value in browser.evaluate(expression)]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")
class TestInTheBrowser:
    @pytest.fixture
    def browser(self, chromium: Browser, tmp_path: Path) -> Iterator[Browser]:
        """The page, open; whatever a test did there, it asked nobody and had no problem."""
        path = written(tmp_path)
        opened(chromium, path)
        yield chromium
        assert chromium.problems == []
        assert [url for url in chromium.requests if not url.startswith((path.as_uri(), "data:"))] == []

    def test_pointing_reads_class_confidence_and_place(self, browser: Browser) -> None:
        mouse(browser, 0.25, 0.25)
        words, *numbers = re.split(r"; x |, y | \(EPSG:32633\); column |, row ", browser.text("#reading"))
        assert words == "river with a confidence of 60 %"
        x, y, column, row = map(float, numbers)
        assert (column, row) == pytest.approx((300, 200), abs=3)
        assert (x, y) == pytest.approx((400_000 + 10 * column, 5_000_000 - 10 * row), abs=10)
        mouse(browser, 0.25, 0.75)
        assert browser.text("#reading").startswith("forest with a confidence of 90 %")
        mouse(browser, 0.9, 0.75)
        assert browser.text("#reading").startswith("unclassified with a confidence of 30 %")
        mouse(browser, 0.05, 0.97)
        assert browser.text("#reading").startswith("No data; x 400")

    def test_the_wheel_zooms_where_it_points_and_dragging_moves(self, browser: Browser) -> None:
        mouse(browser, 0.25, 0.25)
        before = browser.text("#reading")
        mouse(browser, 0.25, 0.25, "mouseWheel", deltaX=0, deltaY=-600)
        browser.wait_for("view.classList.contains('zoomed')")
        mouse(browser, 0.25, 0.25)
        assert browser.text("#reading").split(";")[0] == before.split(";")[0]
        mouse(browser, 0.25, 0.25, "mousePressed", button="left", clickCount=1)
        mouse(browser, 0.25, 0.05, button="left", buttons=1)
        mouse(browser, 0.25, 0.05, "mouseReleased", button="left", clickCount=1)
        moved = browser.evaluate("place.y")
        browser.click("#whole")
        assert moved < 0 and browser.evaluate("[place.x, place.y].map(Math.abs).join()") == "0,0"

    def test_layers_and_classes_are_switched(self, browser: Browser) -> None:
        river = [*bytes.fromhex(COLOURS[1][1:]), 255]
        assert pixel(browser, 5, 5) == river and pixel(browser, 5, 75) == [0, 0, 0, 0]
        browser.click(".legend button[data-value='1']")
        assert pixel(browser, 5, 5) == [0, 0, 0, 0] and pixel(browser, 5, 60)[3] == 255
        browser.click("#all")
        assert pixel(browser, 5, 5) == river
        browser.click("[data-layer=confidence]")
        assert "Confidence of the model" in browser.text(".legend")
        sure, unsure = pixel(browser, 5, 60), pixel(browser, 5, 5)
        assert sure[3] == unsure[3] == 255 and sum(sure) > sum(unsure) and pixel(browser, 5, 75) == [0, 0, 0, 0]
        browser.click("[data-layer=none]")
        assert pixel(browser, 5, 5) == [0, 0, 0, 0] and browser.evaluate("opacity.disabled")

    def test_the_keyboard_moves_and_reads_the_middle(self, browser: Browser) -> None:
        browser.evaluate("view.focus()")
        browser.press("+", "+")
        assert browser.text("#reading").startswith("forest")
        browser.evaluate("view.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowUp', cancelable: true }))")
        assert browser.text("#reading").startswith("river")

    def test_fingers_tap_drag_and_pinch(self, chromium: Browser, tmp_path: Path) -> None:
        opened(chromium, written(tmp_path), width=390)
        left, top, width, height = chromium.evaluate(
            "(view.scrollIntoView({ block: 'center' }), (({ x, y, width, height }) => [x, y, width, height])"
            "(view.getBoundingClientRect()))"
        )

        def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": left + x * width, "y": top + y * height, "id": i} for i, (x, y) in enumerate(places)]
            chromium.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

        touch("touchStart", (0.2, 0.2))
        touch("touchEnd")
        assert chromium.text("#reading").startswith("river with")
        fitting = chromium.evaluate("place.scale")
        touch("touchStart", (0.4, 0.5), (0.6, 0.5))
        for step in range(1, 6):
            touch("touchMove", (0.4 - 0.06 * step, 0.5), (0.6 + 0.06 * step, 0.5))
        touch("touchEnd")
        assert chromium.evaluate("place.scale") == pytest.approx(4 * fitting, rel=0.1)
        before = chromium.evaluate("place.y")
        touch("touchStart", (0.5, 0.3))
        for step in range(1, 6):
            touch("touchMove", (0.5, 0.3 + 0.05 * step))
        touch("touchEnd")
        assert chromium.evaluate("place.y") == pytest.approx(before + 0.25 * height, rel=0.15)
        assert chromium.evaluate("pointers.size") == 0 and chromium.problems == []

    @pytest.mark.parametrize("width", [360, 768, 1280])
    def test_nothing_sticks_out_sideways(self, chromium: Browser, tmp_path: Path, width: int) -> None:
        opened(chromium, written(tmp_path), width=width)
        assert chromium.evaluate("document.documentElement.scrollWidth") <= width
        assert chromium.problems == []
