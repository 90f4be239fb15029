"""Requests and images that nobody thought of: never a 5xx, the process alive, its memory bounded.

``pytest -m slow tests/serving/test_fuzz.py`` sends 12,000 mutated images and more made-up requests.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serving.images import saved
from tests.serving.running import Running, running

FORMS = {
    "JPEG": {}, "JPEG progressive": {"progressive": True}, "PNG": {}, "PNG interlaced": {}, "WEBP": {}, "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"}, "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF jpeg": {"compression": "jpeg"}, "BMP": {},
}  # fmt: skip
BATCH = 8
MAGIC = [
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xff\xd8",
    b"IHDR",
    b"II*\0",
    b"acTL",
    b"\x80\0",
]


def originals() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((96, 96))
    return [saved(image, name.partition(" ")[0], **options) for name, options in FORMS.items()]


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Files with bytes changed, cut out, doubled, swapped between formats, or replaced by what headers are made of."""
    files, draws = originals(), np.random.default_rng(seed)
    for number in range(count):
        content = bytearray(files[number % len(files)])
        for _ in range(draws.integers(1, 6)):
            at = int(draws.integers(0, len(content) if draws.random() < 0.5 else min(200, len(content))))
            kind = draws.integers(0, 6)
            if kind <= 1:
                content[at] = draws.integers(0, 256)
            elif kind == 2:
                magic = MAGIC[draws.integers(0, len(MAGIC))]
                content[at : at + len(magic)] = magic
            elif kind == 3:
                del content[at : at + int(draws.integers(1, 64))]
            elif kind == 4:
                content[at:at] = content[at : at + int(draws.integers(1, 64))]
            else:
                other = files[draws.integers(0, len(files))]
                content[at:] = other[min(at, len(other) - 1) :]
            content = content or bytearray(b"x")
        yield bytes(content)


def resident_mb(service: Running) -> float:
    """Memory of its own and of its workers that is in use, in MB (RssAnon: without mapped files)."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in (service.process.pid, *service.workers)]
    return sum(int(text.partition("RssAnon:")[2].split()[0]) for text in texts) / 1e3


def send_mutated(service: Running, count: int, seed: int) -> dict[str, int]:
    """How many images were answered, and how many refused for which reason."""
    statuses: dict[str, int] = {}
    contents = list(mutated(count, seed))
    with service.client() as client:
        for start in range(0, count, BATCH):
            batch = contents[start : start + BATCH]
            response = client.post("/predict", files=[("file", content) for content in batch])
            assert response.status_code in (200, 413, 415, 422), response.text
            for result in response.json()["results"]:
                code = result["error"]["code"] if "error" in result else "answered"
                statuses[code] = statuses.get(code, 0) + 1
    assert statuses.keys() <= {"answered", "unsupported_media_type", "unusable_image", "too_large"}, statuses
    assert service.process.poll() is None
    return statuses


def test_mutated_images(exported: Path) -> None:
    with running(exported) as service:
        statuses = send_mutated(service, 480, 0)
        assert statuses["answered"] > 20
        assert statuses["unusable_image"] > 20
        assert not service.named("images failed") and not service.named("a worker was lost")


@pytest.mark.slow
def test_many_mutated_images(exported: Path) -> None:
    with running(exported) as service:
        send_mutated(service, 2000, 1)
        before = resident_mb(service)
        total: dict[str, int] = {}
        for seed in range(2, 12):
            for code, number in send_mutated(service, 1000, seed).items():
                total[code] = total.get(code, 0) + number
        print(total, f"memory {before:.0f} MB, then {resident_mb(service):.0f} MB")
        assert resident_mb(service) < before + 60


@pytest.mark.slow
def test_made_up_requests(exported: Path, tmp_path: Path) -> None:
    """By schemathesis, from the service's own description; random bytes are no images, so refusals are no failure."""
    program = Path(sys.executable).with_name("schemathesis")
    with running(exported) as service:
        line = [
            str(program), "run", f"{service.address}/openapi.json", "--max-examples=200", "--seed=1",
            "--exclude-checks=positive_data_acceptance", "--generation-database=none",
        ]  # fmt: skip
        done = subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"CI": "1"}
        )
        assert done.returncode == 0, done.stdout[-4000:]
        assert service.process.poll() is None
