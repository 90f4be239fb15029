"""The service's page, used in a real browser as people use it."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from landuse.monitoring.reference import make_reference, save
from landuse.serving.artifact import REFERENCE_FILE, SAMPLES
from landuse.serving.engine import Engine
from landuse.serving.page import render
from tests.serving.browser import CHROMIUM, Browser
from tests.serving.tiny_model import COLOURS, picture, write_exported

browser_test = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")]
CARDS = "#cards .result.done"


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


@contextmanager
def serving(folder: Path, log: Path, *overrides: str, **environment: str) -> Iterator[str]:
    """The address of a service, which ends with the block."""
    line = [sys.executable, "-m", "landuse.serve", f"run={folder}", "serve.port=0", *overrides]
    with log.open("w") as stderr:
        process = subprocess.Popen(line, stderr=stderr, cwd=log.parent, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 60
        while not (ready := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield ready.group()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def service(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(exported, tmp_path_factory.mktemp("service") / "log") as address:
        yield address


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser, service: str) -> Iterator[Browser]:
    """The page, open and complete; whatever a test did there, it asked nobody else and had no problem."""
    chromium.open(service)
    chromium.wait_for("document.querySelectorAll('#sample-list button').length === 3")
    yield chromium
    assert chromium.problems == []
    assert {address for address in chromium.requests if not address.startswith((service, "data:", "blob:"))} == set()


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., list[Path]]:
    """Make image files, of the classes in turn."""

    def make(count: int, suffix: str = ".png") -> list[Path]:
        files = [tmp_path / f"{list(COLOURS)[i % 3]}-{i}{suffix}" for i in range(count)]
        for file in files:
            Image.fromarray(picture(file.stem.partition("-")[0])).save(file)
        return files

    return make


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


class TestInTheBrowser:
    pytestmark = browser_test

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
        assert len([address for address in browser.requests if "/predict" in address]) == 3
        browser.click("#clear")
        assert browser.evaluate("document.querySelector('#results').hidden")

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
        outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"

    def test_what_is_no_image_is_told_in_its_place(
        self, browser: Browser, images: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        bad = tmp_path / "<img src=x onerror=alert(1)>.png"
        bad.write_bytes(b"no image")
        browser.choose("#files", [*images(2), bad])
        assert len(cards(browser, 2)) == 2
        failed = browser.text("#cards .failed")
        assert failed.startswith(f"No preview\n{bad.name}\n") or failed.startswith(f"{bad.name}\n")
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
        browser.wait_for("!document.querySelector('.preview span').hidden")

    def test_model_is_described(self, browser: Browser) -> None:
        assert re.fullmatch(r"landuse · fp32 · version [0-9a-f]{12} · 3 classes", browser.text("#model-line"))
        assert "16 × 16 pixels" in browser.text("#facts")
        assert browser.evaluate("location.origin") in browser.evaluate("document.querySelector('#curl').textContent")

    def test_page_fits_a_phone(self, browser: Browser, service: str, images: Callable[..., list[Path]]) -> None:
        browser.open(service, width=320, height=640)
        browser.wait_for("document.querySelectorAll('#sample-list button').length === 3")
        browser.choose("#files", images(2))
        assert len(cards(browser, 2)) == 2
        browser.click("#code summary")
        assert browser.evaluate("document.documentElement.scrollWidth") == 320
        small = """Array.from(document.querySelectorAll("button, summary, a, input:not(.unseen), label#drop"))
            .filter((one) => one.offsetParent && Math.min(one.offsetHeight, one.offsetWidth) < 44)
            .map((one) => one.outerHTML)"""
        assert browser.evaluate(small) == []

    def test_dark_where_the_system_is(self, browser: Browser, service: str) -> None:
        background = "getComputedStyle(document.body).backgroundColor"
        light = browser.evaluate(background)
        browser.open(service, prefers_color_scheme="dark")
        assert browser.evaluate(background) != light

    def test_nothing_moves_for_those_who_asked(self, browser: Browser, service: str) -> None:
        browser.open(service, prefers_reduced_motion="reduce")
        browser.wait_for("document.querySelectorAll('#sample-list button').length === 3")
        browser.click("#sample-list button")
        cards(browser, 1)
        assert browser.evaluate("document.getAnimations().length") == 0

    def test_policy_stops_what_others_put_into_the_page(self, browser: Browser, service: str) -> None:
        browser.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=/none onerror=\"window.broken = 1\">')"
        )
        browser.wait_for("document.querySelector('img[src=\"/none\"]').complete")
        browser.evaluate("fetch('http://127.0.0.2:9/').catch(() => 0)")
        assert browser.evaluate("window.broken") is None
        assert len([problem for problem in browser.problems if "Content Security Policy" in problem]) >= 2
        browser.problems.clear()
        browser.requests[:] = [address for address in browser.requests if address.startswith(service)]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")
def test_drift_is_shown(chromium: Browser, exported: Path, tmp_path: Path) -> None:
    with serving(exported, tmp_path / "log", "drift.window=60", "drift.min_images=30") as address:
        chromium.open(address)
        chromium.wait_for("document.querySelector('#drift-state').dataset.state === 'too_few'")
        assert "0 of the 30 images" in chromium.text("#drift-note")
        dark = tmp_path / "dark.png"
        Image.fromarray(picture("field") // 4).save(dark)
        chromium.choose("#files", [dark] * 32)
        chromium.wait_for("document.querySelector('#drift-state').dataset.state === 'drift'")
        assert chromium.text("#drift-word") == "Drift"
        assert re.search(r"differs\s+distance 1\.0, p < 0\.0001", chromium.text("#drift-tests"))
        assert chromium.problems == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")
def test_service_with_a_key(chromium: Browser, exported: Path, tmp_path: Path) -> None:
    with serving(exported, tmp_path / "log", LANDUSE_API_KEY="open sesame".replace(" ", "-")) as address:
        chromium.open(address)
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
        assert httpx.get(f"{address}/model").status_code == 401


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on PATH")
def test_service_that_has_gone(
    chromium: Browser, exported: Path, tmp_path: Path, images: Callable[..., list[Path]]
) -> None:
    with serving(exported, tmp_path / "log") as address:
        chromium.open(address)
        chromium.wait_for("document.querySelectorAll('#sample-list button').length === 3")
    chromium.choose("#files", images(1))
    chromium.wait_for("document.querySelector('#cards .failed')")
    assert "cannot be reached" in chromium.text("#cards .failed")
    chromium.wait_for("document.querySelector('#drift-state').dataset.state === 'unknown'")
    with serving(exported, tmp_path / "log", f"serve.port={address.rpartition(':')[2]}"):
        chromium.click("#cards .again")
        assert "Field" in cards(chromium, 1)[0]
