"""The service's page, used in a real browser as people use it."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image

from landuse.monitoring import REFERENCE_FILE
from landuse.monitoring.reference import make_reference, save
from landuse.serving.artifact import SAMPLES
from landuse.serving.engine import Engine
from landuse.serving.page import render
from tests.serving.browser import CHROMIUM, Browser
from tests.serving.running import running
from tests.serving.tiny_model import COLOURS, picture, write_exported

CARDS = "#cards .result.done"
Tested = TypeVar("Tested")


def in_browser(test: Tested) -> Tested:
    """Mark a function or class of tests."""
    return pytest.mark.browser(pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")(test))


def noisy(name: str, seed: int) -> np.ndarray:
    """A picture of a class with noise of its own, as no two photographs are the same."""
    noise = np.random.default_rng(seed).integers(-30, 30, (16, 16, 3))
    return np.clip(picture(name) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model with samples, and with a reference that drift is told by."""
    folder = write_exported(tmp_path_factory.mktemp("exported"))
    (folder / SAMPLES).mkdir()
    for name in COLOURS:
        Image.fromarray(picture(name)).save(folder / SAMPLES / f"{name}.png")
    images = np.stack([noisy(name, seed) for seed in range(40) for name in COLOURS])
    save(folder / REFERENCE_FILE, make_reference(images, *Engine(folder)(images)))
    return folder


@pytest.fixture(scope="module")
def address(exported: Path) -> Iterator[str]:
    """Of a service."""
    with running(exported) as service:
        yield service.address


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser, address: str) -> Iterator[Browser]:
    """The page, open and complete; whatever a test did there, it asked nobody else and had no problem."""
    open_page(chromium, address)
    yield chromium
    assert chromium.problems == []
    assert {url for url in chromium.requests if not url.startswith((address, "data:", "blob:"))} == set()


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., list[Path]]:
    """Make image files, of the classes in turn."""

    def make(count: int, suffix: str = ".png") -> list[Path]:
        files = [tmp_path / f"{list(COLOURS)[i % 3]}-{i}{suffix}" for i in range(count)]
        for file in files:
            Image.fromarray(picture(file.stem.partition("-")[0])).save(file)
        return files

    return make


def open_page(browser: Browser, address: str, **appearance: Any) -> None:
    """Open the page, and wait until the last part of it has come."""
    browser.open(address, **appearance)
    browser.wait_for("document.querySelectorAll('#sample-list button').length === 3")


def cards(browser: Browser, count: int) -> list[str]:
    """What stands on the cards, once so many are done."""
    browser.wait_for(f"document.querySelectorAll('{CARDS}').length === {count}")
    texts = browser.evaluate(f"Array.from(document.querySelectorAll('{CARDS}'), (card) => card.innerText)")
    return [text.replace("\u00a0", " ") for text in texts]


def test_document_allows_nothing_but_itself() -> None:
    document, policy = render()
    text = document.decode()
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)
        checksum = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{checksum}';" in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text) is None
    assert re.search(r"<[^>]+ (style|on\w+)=", text) is None


def test_names_in_the_document_lead_somewhere() -> None:
    text = render()[0].decode()
    identifiers = re.findall(r"\bid=\"([\w-]+)\"", text)
    assert len(identifiers) == len(set(identifiers))
    used = re.findall(r"\$\(\"([\w-]+)\"\)|\b(?:for|aria-labelledby|aria-describedby)=\"([\w-]+)\"", text)
    assert {script or markup for script, markup in used} <= set(identifiers)


@in_browser
class TestInTheBrowser:
    def test_chosen_file_is_classified(self, browser: Browser, images: Callable[..., list[Path]]) -> None:
        browser.choose("#files", images(1))
        (card,) = cards(browser, 1)
        assert card.split("\n")[0] == "field-0.png"
        assert re.search(r"Field\s+9\d\.\d %", card)
        assert "Roof" in card and "Water" in card
        assert browser.text("#announcement").startswith("field-0.png: Field, 9")
        assert browser.evaluate("document.querySelector('.result img').naturalWidth") == 16
        widths = browser.evaluate(
            "Array.from(document.querySelectorAll('.bar i'), (bar) => parseFloat(bar.style.width))"
        )
        assert widths == sorted(widths, reverse=True) and sum(widths) == pytest.approx(100, abs=0.1)

    def test_dropped_files_go_in_parts_and_stay_in_order(
        self, browser: Browser, images: Callable[..., list[Path]]
    ) -> None:
        files = images(20)
        browser.drop("#drop", files)
        assert [card.split("\n")[0] for card in cards(browser, 20)] == [file.name for file in files]
        assert len([url for url in browser.requests if "/predict" in url]) == 3
        browser.click("#clear")
        assert browser.evaluate("document.querySelector('#results').hidden")

    def test_dropped_folder_is_searched(
        self, browser: Browser, images: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        inner = tmp_path / "survey" / "north"
        inner.mkdir(parents=True)
        for file in images(11):
            file.rename(inner / file.name)
        (inner.parent / "notes.txt").write_text("no image")
        (empty := tmp_path / "empty").mkdir()
        browser.drop("#drop", [inner.parent])
        assert len(cards(browser, 11)) == 11
        browser.drop("#drop", [empty])
        browser.wait_for("!document.querySelector('#files-problem').hidden")

    def test_pasted_image_is_classified(self, browser: Browser, images: Callable[..., list[Path]]) -> None:
        browser.paste(images(1)[0])
        assert "Field" in cards(browser, 1)[0]

    def test_cancelled_images_can_be_sent_again(self, browser: Browser, images: Callable[..., list[Path]]) -> None:
        slow = {"offline": False, "latency": 2000, "downloadThroughput": -1, "uploadThroughput": -1}
        browser.call("Network.emulateNetworkConditions", **slow)
        browser.choose("#files", images(20))
        browser.wait_for("document.querySelector('#cards .running')")
        browser.click("#cancel")
        browser.wait_for("document.querySelectorAll('#cards .open').length === 20")
        browser.wait_for("document.querySelector('#progress').hidden")
        assert browser.text("#announcement") == "Cancelled."
        browser.call("Network.emulateNetworkConditions", **slow | {"latency": 0})
        assert browser.text("#again") == "Try 20 images again"
        browser.click("#again")
        assert len(cards(browser, 20)) == 20
        browser.wait_for("document.querySelector('#again').hidden")

    def test_sample_is_a_button(self, browser: Browser) -> None:
        browser.click("#sample-list li:nth-child(3) button")
        (card,) = cards(browser, 1)
        assert card.startswith("Sample of water") and re.search(r"Water\s+9\d\.\d %", card)

    def test_keys_alone_suffice(self, browser: Browser) -> None:
        browser.press("Tab")
        assert browser.evaluate("document.activeElement.id") == "files"
        browser.press("Enter")
        browser.wait_for("true")
        assert len(browser.choosers) == 1
        browser.press("Tab", "Tab", "Enter")
        assert cards(browser, 1)[0].startswith("Sample of roof")
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        browser.press("Tab", "Tab", " ")
        assert browser.evaluate("document.querySelector('#results').hidden")
        assert browser.evaluate("document.activeElement.id") == "files"

    def test_what_is_no_image_is_told_in_its_place(
        self, browser: Browser, images: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        bad = tmp_path / "<img src=x onerror=alert(1)>.png"
        bad.write_bytes(b"no image")
        browser.choose("#files", [*images(2), bad])
        assert len(cards(browser, 2)) == 2
        failed = browser.text("#cards .failed")
        assert bad.name in failed.split("\n")
        assert "not a readable image" in failed
        assert not browser.evaluate("Boolean(document.querySelector('#cards .failed .file-name *'))")

        browser.choose("#files", [bad])  # alone it is an error of the whole request
        browser.wait_for("document.querySelectorAll('#cards .failed').length === 2")
        assert "not a readable image" in browser.text("#cards .failed")
        refused = [problem for problem in browser.problems if "status of 415" in problem]
        browser.problems.remove(*refused)  # the browser's own note of the status

    def test_picture_that_browsers_do_not_show(self, browser: Browser, images: Callable[..., list[Path]]) -> None:
        browser.choose("#files", images(1, ".tif"))
        assert "Field" in cards(browser, 1)[0]
        browser.wait_for("document.querySelector('.preview').innerText === 'No preview'")

    def test_large_image_is_mapped(self, browser: Browser, tmp_path: Path) -> None:
        names = [["field", "field", "water"], ["field", "field", "roof"]]
        rows = [np.concatenate([picture(name, size_px=64) for name in row], axis=1) for row in names]
        Image.fromarray(np.concatenate(rows)).save(tmp_path / "scene.png")
        browser.choose("#files", [tmp_path / "scene.png"])
        browser.wait_for("document.querySelector('.mapping:not([hidden])')")
        assert browser.evaluate("document.querySelector('.mapping input').value") == "16"
        browser.click(".mapping button")
        browser.wait_for("document.querySelectorAll('.legend li').length === 3")
        legend = browser.text(".legend").split()
        assert legend[0] == "Field" and float(legend[1]) == pytest.approx(66.7, abs=2)
        assert {legend[3], legend[6]} == {"Water", "Roof"}
        assert browser.text("#announcement").startswith("scene.png is mapped: Field 6")
        assert "345 tiles of 16 × 16 pixels, 8 apart, of the image’s 192 × 128" in browser.text(".map-note")

        alphas = """(() => {
            const copy = new OffscreenCanvas(192, 128).getContext("2d", { willReadFrequently: true });
            copy.drawImage(document.querySelector(".map canvas"), 0, 0);
            return [20, 160].map((x) => copy.getImageData(x, 20, 1, 1).data[3]);
        })()"""
        assert browser.evaluate(alphas) == [255, 255]
        browser.click(".legend li:first-child button")  # field alone
        assert browser.evaluate(alphas) == [255, 0]
        browser.evaluate("document.querySelector('.map canvas').focus()")
        browser.press("ArrowRight", "ArrowRight")
        assert re.fullmatch(r"Field, 9\d % sure, at pixel 99 / 65", browser.text(".map-place"))
        assert browser.text("#announcement") == browser.text(".map-place")
        browser.click(".map canvas")
        assert browser.text(".map-place").startswith("Field, ")

    def test_map_is_offered_where_it_makes_sense(
        self, browser: Browser, images: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        (small,), (unseen,) = images(1), images(1, ".tif")
        browser.choose("#files", [small, unseen])
        cards(browser, 2)
        browser.wait_for("document.querySelectorAll('.mapping:not([hidden])').length === 1")
        assert browser.text("#cards .result:has(.mapping:not([hidden])) .file-name") == unseen.name
        browser.evaluate("document.querySelector('.mapping:not([hidden]) input').value = 8")
        browser.click(".mapping:not([hidden]) button")
        browser.wait_for("document.querySelector('.map img')?.naturalWidth === 16")  # which is seen now
        Image.new("RGB", (900, 900)).save(tmp_path / "large.png")
        browser.click("#clear")
        browser.choose("#files", [tmp_path / "large.png"])
        browser.wait_for("document.querySelector('.mapping:not([hidden])')")
        browser.click(".mapping button")
        browser.wait_for("document.querySelector('.mapping.failed')")
        assert "12,544 tiles of 16 pixels, 8 apart, of 2,048 at most" in browser.text(".mapping .state")
        assert browser.text(".mapping button") == "Map the whole image"
        refused = [problem for problem in browser.problems if "status of 413" in problem]
        browser.problems.remove(*refused)  # the browser's own note of the status

    def test_model_is_described(self, browser: Browser) -> None:
        assert browser.text("#model-line") == "Which of 3 classes an image shows, and how sure that is"
        facts = browser.text("#facts")
        assert "16 × 16 pixels" in facts and "fp32" in facts and re.search(r"\b[0-9a-f]{12}\b", facts)
        assert browser.evaluate("location.origin") in browser.evaluate("document.querySelector('#curl').textContent")

    def test_page_fits_a_phone(self, browser: Browser, address: str, images: Callable[..., list[Path]]) -> None:
        open_page(browser, address, width=320, height=640)
        browser.choose("#files", [*images(1), *images(1, ".tif")])
        assert len(cards(browser, 2)) == 2
        browser.wait_for("document.querySelector('.mapping:not([hidden])')")
        browser.click(".mapping:not([hidden]) button")
        browser.wait_for("document.querySelector('.legend button')")
        browser.click("#code summary")
        assert browser.evaluate("document.documentElement.scrollWidth") == 320
        small = """Array.from(document.querySelectorAll("button, summary, a, input:not(.unseen), label#drop"))
            .filter((one) => one.offsetParent && Math.min(one.offsetHeight, one.offsetWidth) < 44)
            .map((one) => one.outerHTML)"""
        assert browser.evaluate(small) == []

    def test_dark_where_the_system_is(self, browser: Browser, address: str) -> None:
        background = "getComputedStyle(document.body).backgroundColor"
        light = browser.evaluate(background)
        browser.open(address, prefers_color_scheme="dark")
        assert browser.evaluate(background) != light

    def test_nothing_moves_for_those_who_asked(self, browser: Browser, address: str) -> None:
        open_page(browser, address, prefers_reduced_motion="reduce")
        browser.click("#sample-list button")
        cards(browser, 1)
        assert browser.evaluate("document.getAnimations().length") == 0

    def test_policy_stops_what_others_put_into_the_page(self, browser: Browser, address: str) -> None:
        browser.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=/none onerror=\"window.broken = 1\">')"
        )
        browser.wait_for("document.querySelector('img[src=\"/none\"]').complete")
        browser.evaluate("fetch('http://127.0.0.2:9/').catch(() => 0)")
        assert browser.evaluate("window.broken") is None
        assert len([problem for problem in browser.problems if "Content Security Policy" in problem]) >= 2
        browser.problems.clear()
        browser.requests[:] = [url for url in browser.requests if url.startswith(address)]


@in_browser
def test_drift_is_shown(chromium: Browser, exported: Path, tmp_path: Path) -> None:
    with running(exported, "drift.window=60", "drift.min_images=30", "drift.share=1") as service:
        chromium.open(service.address)
        chromium.wait_for("document.querySelector('#drift-state').dataset.state === 'too_few'")
        assert "0 of the 30 images" in chromium.text("#drift-note")
        alike = [tmp_path / f"{name}-{seed}.png" for seed in range(100, 110) for name in COLOURS]
        for file in alike:
            name, _, seed = file.stem.partition("-")
            Image.fromarray(noisy(name, int(seed))).save(file)
        chromium.choose("#files", alike)
        chromium.wait_for("document.querySelector('#drift-state').dataset.state === 'ok'")
        assert re.match(r"0 of \d+ tests see a difference", chromium.text("#drift-tests"))
        dark = tmp_path / "dark.png"
        Image.fromarray(picture("field") // 4).save(dark)
        chromium.choose("#files", [dark] * 32)
        chromium.wait_for("document.querySelector('#drift-state').dataset.state === 'drift'")
        assert chromium.text("#drift-word") == "Drift found"
        assert "Most of all: " in chromium.text("#drift-note") and "newest 60 images" in chromium.text("#drift-note")
        assert re.match(r"\d+ of \d+ tests see a difference", chromium.text("#drift-tests"))
        chromium.click("#drift-tests summary")
        assert re.search(r"0\.\d\d\s+< 0\.0001", chromium.text("#drift-tests .differs"))
        assert chromium.problems == []


@in_browser
def test_service_with_a_key(chromium: Browser, exported: Path) -> None:
    with running(exported, LANDUSE_API_KEY="open-sesame") as service:
        chromium.open(service.address)
        chromium.wait_for("!document.querySelector('#key').hidden")
        for key, accepted in (("wrong", False), ("open-sesame", True)):
            chromium.click("#key-field")
            chromium.press(*key, "Enter")
            chromium.wait_for(f"document.querySelector('#key').hidden === {json.dumps(accepted)}")
            chromium.wait_for(f"document.querySelector('#key-problem').hidden === {json.dumps(accepted)}")
        chromium.wait_for("document.querySelectorAll('#sample-list button').length === 3")
        chromium.click("#sample-list button")
        assert cards(chromium, 1)[0].startswith("Sample of field")
        assert "X-API-Key" in chromium.evaluate("document.querySelector('#curl').textContent")
        assert chromium.evaluate("document.querySelector('#metrics').hidden")  # a link cannot show a key
        assert all("status of 401" in problem for problem in chromium.problems)
        expected = {"/": 200, "/docs": 200, "/openapi.json": 200, "/model": 401, "/samples/0": 401, "/metrics": 401}
        assert {path: httpx.get(service.address + path).status_code for path in expected} == expected


@in_browser
def test_file_beyond_the_limit_is_not_sent(
    chromium: Browser, exported: Path, tmp_path: Path, images: Callable[..., list[Path]]
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(2_000_000))
    with running(exported, "serve.max_bytes=1000000") as service:
        open_page(chromium, service.address)
        chromium.choose("#files", [*images(1), large])
        assert len(cards(chromium, 1)) == 1
        chromium.wait_for("document.querySelector('#cards .failed')")
        assert "This file has 2.0 MB; the service takes 1.0 MB at most." in chromium.text("#cards .failed")
        assert len([url for url in chromium.requests if "/predict" in url]) == 1
        assert chromium.problems == []


@in_browser
def test_documentation_needs_no_other_site(chromium: Browser, address: str) -> None:
    chromium.open(f"{address}/docs")
    chromium.wait_for("document.querySelectorAll('.opblock').length > 5")
    assert "/predict" in chromium.text(".swagger-ui")
    assert {url for url in chromium.requests if not url.startswith((address, "data:"))} == set()
    assert chromium.problems == []


@in_browser
def test_service_that_has_gone(chromium: Browser, exported: Path, images: Callable[..., list[Path]]) -> None:
    with running(exported) as service:
        open_page(chromium, service.address)
    chromium.choose("#files", images(1))
    chromium.wait_for("document.querySelector('#cards .failed')")
    assert "cannot be reached" in chromium.text("#cards .failed")
    chromium.wait_for("document.querySelector('#drift-state').dataset.state === 'unknown'")
    with running(exported, f"serve.port={service.port}"):
        chromium.click("#again")
        assert "Field" in cards(chromium, 1)[0]
