"""POST /map: what a large image shows where, and errors that say what was wrong."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving.images import encoded, saved
from tests.serving.running import Running
from tests.serving.test_predict_route import HOSTILE, error
from tests.serving.test_telling import samples
from tests.serving.tiny_model import COLOURS, picture

NAMES = list(COLOURS)


def ask(client: httpx.Client, *contents: bytes, name: str = "file", **query: object) -> httpx.Response:
    return client.post("/map", files=[(name, content) for content in contents], params=query)


def scene(names: list[list[str]], side: int = 64) -> Image.Image:
    """Squares of classes."""
    rows = [np.concatenate([picture(name, size_px=side) for name in row], axis=1) for row in names]
    return Image.fromarray(np.concatenate(rows))


def cells_of(found: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Names of classes and confidences 0..1, of all pixels (H, W)."""
    cells = found["cells"]
    heights, widths = np.diff(cells["rows"]), np.diff(cells["columns"])
    layers = []
    for name in ("classes", "confidences"):
        values = np.frombuffer(base64.b64decode(cells[name]), np.uint8).reshape(len(heights), len(widths))
        layers.append(np.repeat(np.repeat(values, heights, axis=0), widths, axis=1))
    names = np.array([entry["class"] for entry in found["classes"]])
    return names[layers[0]], layers[1] / 255


def test_each_place_has_the_class_that_is_there(client: httpx.Client) -> None:
    names = [["field", "field", "water"], ["field", "field", "roof"]]
    response = ask(client, saved(scene(names), "PNG"), tile=16)
    assert response.status_code == 200
    found = response.json()
    assert (found["width"], found["height"], found["tile"], found["stride"]) == (192, 128, 16, 8)
    assert found["tiles"] == 23 * 15
    classes, confidences = cells_of(found)
    expected = np.repeat(np.repeat(np.array(names), 64, axis=0), 64, axis=1)
    assert (classes == expected).mean() > 0.98  # cells lie on both sides of a border
    assert (confidences[:48, :48] > 0.9).all() and (confidences <= 1).all()
    assert found["classes"][0]["class"] == "field"
    shares = {entry["class"]: entry["share"] for entry in found["classes"]}
    assert shares == {name: pytest.approx((classes == name).mean()) for name in shares}
    assert sum(shares.values()) == pytest.approx(1)
    assert len({entry["colour"] for entry in found["classes"]}) == len(shares)


def test_a_tile_has_the_answer_that_it_has_as_an_image(client: httpx.Client) -> None:
    """Where tiles do not overlap nothing is blended."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((160, 128), Image.Resampling.BICUBIC)
    found = ask(client, saved(image, "PNG"), tile=32, stride=1).json()
    classes, confidences = cells_of(found)
    assert found["tiles"] == 20
    for top in range(0, 128, 32):
        for left in range(0, 160, 32):
            content = saved(image.crop((left, top, left + 32, top + 32)), "PNG")
            answer = client.post("/predict", files=[("file", content)]).json()["results"][0]["predictions"][0]
            part = slice(top, top + 32), slice(left, left + 32)
            assert set(classes[part].ravel()) == {answer["class"]}
            assert confidences[part] == pytest.approx(answer["probability"], abs=0.51 / 255)


@pytest.mark.parametrize(("width", "height", "query"), [(5, 9, {}), (20, 20, {"tile": 4096}), (1000, 1, {})])
def test_small_and_narrow_images_are_mapped(
    client: httpx.Client, width: int, height: int, query: dict[str, object]
) -> None:
    image = Image.new("RGB", (width, height), COLOURS["water"])
    response = ask(client, saved(image, "PNG"), **query)
    assert response.status_code == 200
    classes, _ = cells_of(response.json())
    assert classes.shape == (height, width)
    assert set(classes.ravel()) == {"water"}
    assert [(entry["class"], entry["share"]) for entry in response.json()["classes"]] == [("water", 1.0)]


@pytest.mark.parametrize("form", ["TIFF", "BMP"])
def test_preview_is_what_browsers_show(client: httpx.Client, form: str) -> None:
    image = scene([["roof", "water"]]).resize((300, 100) if form == "BMP" else (1500, 500))
    content = saved(image, form, **({"compression": "jpeg"} if form == "TIFF" else {}))
    found = ask(client, content, tile=100).json()
    head, _, code = found["preview"].partition(",")
    preview = Image.open(io.BytesIO(base64.b64decode(code)))
    assert head == "data:image/jpeg;base64" and preview.format == "JPEG"
    assert preview.size == (min(image.width, 1024), round(image.height * min(1, 1024 / image.width)))
    assert np.abs(np.array(preview.getpixel((9, 9))) - COLOURS["roof"]).max() < 12


def test_image_is_turned_upright(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side
    found = ask(client, saved(scene([["field", "water"]]), "PNG", exif=exif)).json()
    assert (found["width"], found["height"]) == (64, 128)
    classes, _ = cells_of(found)
    assert set(classes[:56].ravel()) == {"field"} and set(classes[72:].ravel()) == {"water"}


@pytest.mark.parametrize("name", ["empty", "text", "animated png", "truncated", "bomb", "scans"])
def test_unusable_images(client: httpx.Client, name: str) -> None:
    content, status, words = HOSTILE[name]
    response = ask(client, content)
    assert response.status_code == status
    assert words in error(response)["message"]


def test_too_many_tiles(client: httpx.Client) -> None:
    content = saved(Image.new("RGB", (900, 900)), "PNG")
    response = ask(client, content)
    assert response.status_code == 413
    message = error(response)["message"]
    assert "12,544 tiles of 16 pixels, 8 apart, of 2,048 at most" in message
    fitting = int(message.partition("tiles of 16")[2].partition("ask for tiles of ")[2].split()[0])
    assert ask(client, content, tile=fitting - 1).status_code == 413
    assert ask(client, content, tile=fitting).status_code == 200


@pytest.mark.parametrize(
    "query",
    [{"tile": 7}, {"tile": 4097}, {"tile": "x"}, {"tile": 20.5}, {"stride": 0.2}, {"stride": 1.1}, {"stride": "nan"}],
)
def test_wrong_parameters(client: httpx.Client, query: dict[str, object]) -> None:
    response = ask(client, encoded(), **query)
    assert response.status_code == 422
    assert f"query.{next(iter(query))}" in error(response)["message"]


def test_forms(client: httpx.Client) -> None:
    assert ask(client, encoded(), name="image").status_code == 422
    assert client.post("/map").status_code == 415
    two = ask(client, encoded(), encoded())
    assert two.status_code == 413 and "of one image" in error(two)["message"]
    assert ask(client, bytes(300_001)).status_code == 413


def test_maps_are_counted_and_told(service: Running, client: httpx.Client) -> None:
    def counts() -> tuple[float, float]:
        found = samples(client)
        answered = sum(value for key, value in found.items() if key[0] == "landuse_predictions_total")
        return found.get(("landuse_requests_total", "/map", "200"), 0), answered

    (maps, answered), told = counts(), len(service.named("mapped"))
    assert ask(client, encoded(size_px=64)).status_code == 200
    assert counts() == (maps + 1, answered)  # tiles are no images that somebody asked about
    assert service.named("mapped")[told]["tiles"] == 49
    assert len(service.workers) == 2  # what cut it has ended


def test_who_leaves_is_not_mapped_for(service: Running, client: httpx.Client) -> None:
    content = saved(Image.new("RGB", (368, 368)), "PNG")
    left = [line for line in service.named("request") if line["route"] == "/map" and line["status"] == 400]
    with pytest.raises(httpx.ReadTimeout):
        client.post("/map", files=[("file", content)], timeout=0.3)
    while (response := ask(client, encoded())).status_code == 429:
        assert response.headers["retry-after"] == "5"
    assert response.status_code == 200
    now = [line for line in service.named("request") if line["route"] == "/map" and line["status"] == 400]
    assert len(now) == len(left) + 1
