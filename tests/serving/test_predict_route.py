"""POST /predict: answers, and errors that say what was wrong."""

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving.images import (
    HUGE_TILES,
    MANY_PAGES,
    MANY_STRIPS,
    RUNS,
    animated,
    bomb_png,
    deep_png,
    encoded,
    many_scans,
    saved,
)  # fmt: skip
from tests.serving.tiny_model import picture


def ask(client: httpx.Client, *contents: bytes, name: str = "file", **query: object) -> httpx.Response:
    return client.post("/predict", files=[(name, content) for content in contents], params=query)


def error(response: httpx.Response) -> dict[str, str]:
    content = response.json()["error"]
    assert content["request_id"] == response.headers["x-request-id"]
    return content


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_answers(client: httpx.Client, form: str) -> None:
    response = ask(client, encoded("roof", form), top_n=2)
    assert response.status_code == 200
    (result,) = response.json()["results"]
    assert [prediction["class"] for prediction in result["predictions"]] == ["roof", "field"]
    assert 0.9 < result["predictions"][0]["probability"] <= 1
    assert response.json()["model"].keys() == {"name", "version", "variant"}


def test_several_files_in_order_and_one_bad_among_them(client: httpx.Client) -> None:
    response = ask(client, encoded("water"), b"no image", encoded("field"))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["file"] for result in results] == [0, 1, 2]
    assert results[0]["predictions"][0]["class"] == "water"
    assert results[1]["error"]["code"] == "unsupported_media_type"
    assert results[2]["predictions"][0]["class"] == "field"


def test_pixels_are_cut_and_resized_as_in_training(client: httpx.Client) -> None:
    """The middle of a wide picture is water; its sides are roof."""
    wide = np.concatenate(
        [picture("roof", size_px=32), picture("water", size_px=32), picture("roof", size_px=32)], axis=1
    )
    response = ask(client, saved(Image.fromarray(wide), "PNG"), top_n=1)
    assert response.json()["results"][0]["predictions"][0]["class"] == "water"


@pytest.mark.parametrize("top_n", ["0", "-1", "x", "1001"])
def test_wrong_top_n(client: httpx.Client, top_n: str) -> None:
    response = ask(client, encoded(), top_n=top_n)
    assert response.status_code == 422
    assert "top_n" in error(response)["message"]


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/v2/health/live"):
        response = client.head(path)
        assert (response.status_code, response.content) == (200, b"")
    assert client.head("/predict").status_code == 405


def test_top_n_beyond_the_classes_gives_all(client: httpx.Client) -> None:
    assert len(ask(client, encoded(), top_n=1000).json()["results"][0]["predictions"]) == 3


HOSTILE = {
    "empty": (b"", 422, "empty"),
    "text": (b"hello", 415, "no known image format"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', 415, "image format"),
    "html": (b"<!DOCTYPE html><script>alert(1)</script>", 415, "image format"),
    "pdf": (b"%PDF-1.7\n1 0 obj", 415, "image format"),
    "gif": (animated("GIF"), 415, "image format"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "image format"),
    "animated webp": (animated("WEBP"), 422, "animated"),
    "animated png": (animated("PNG"), 422, "animated"),
    "16 bits": (deep_png(), 422, "more than 8 bits"),
    "truncated": (encoded(form="JPEG", size_px=256)[:400], 422, "not a readable image"),
    "bomb": (bomb_png(5000), 413, "5000 x 5000 pixels"),
    "scans": (many_scans(), 422, "scans"),
    "strips of a TIFF": (MANY_STRIPS, 422, "strips"),
    "tiles of a TIFF": (HUGE_TILES, 422, "tiles"),
    "runs of a BMP": (RUNS, 422, "run-length"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_unusable_images(client: httpx.Client, name: str) -> None:
    content, status, words = HOSTILE[name]
    response = ask(client, content)
    assert response.status_code == status
    assert words in error(response)["message"]


def test_pages_of_a_tiff_are_not_counted(client: httpx.Client) -> None:
    """Which takes Pillow a time that grows with their square."""
    assert ask(client, MANY_PAGES).status_code == 200


def test_a_picture_with_a_page_behind_it_is_a_picture(client: httpx.Client) -> None:
    """Polyglot files do no harm where nothing of them is given back."""
    response = ask(client, encoded("roof") + b"<script>alert(1)</script>PK\x03\x04")
    assert response.json()["results"][0]["predictions"][0]["class"] == "roof"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\\b.png", "x" * 5000, "\u202egnp.exe", "C:\\con", "%00.png"])
def test_names_of_files_are_not_looked_at(client: httpx.Client, name: str) -> None:
    response = client.post("/predict", files=[("file", (name, encoded("roof"), "application/x-sh"))])
    assert response.status_code == 200
    assert response.json()["results"][0]["predictions"][0]["class"] == "roof"


def test_forms(client: httpx.Client) -> None:
    assert client.post("/predict", content=encoded(), headers={"content-type": "image/png"}).status_code == 415
    assert client.post("/predict").status_code == 415
    assert ask(client, encoded(), name="image").status_code == 422
    damaged = client.post(
        "/predict", content=b"--x\r\nfoo", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert damaged.status_code == 400
    assert error(damaged)["code"] == "bad_request"


def test_too_many_bytes_and_files(client: httpx.Client) -> None:
    assert ask(client, *[encoded()] * 4).status_code == 200
    assert ask(client, *[encoded()] * 5).status_code == 413
    large = ask(client, bytes(300_001))
    assert large.status_code == 413
    assert "300,000 bytes" in error(large)["message"]

    def chunks() -> object:
        for _ in range(400):
            yield bytes(1000)

    unannounced = client.post("/predict", content=chunks(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert unannounced.status_code == 413


def test_other_addresses_and_methods(client: httpx.Client) -> None:
    assert error(client.get("/nothing"))["code"] == "not_found"
    response = client.get("/predict")
    assert error(response)["code"] == "method_not_allowed"
    assert "POST" in response.headers["allow"]
