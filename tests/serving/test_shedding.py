"""Which requests are refused unheard, and in what form."""

import asyncio
import json

import pytest

from landuse.serving.metrics import Metrics
from landuse.serving.shedding import Shedding


def answer_to(method: str, path: str, is_full: bool) -> bytes | None:
    async def ask() -> bytes | None:
        return Shedding(lambda: is_full, Metrics(lambda: []))(method, path)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("method", "path", "is_full"),
    [
        ("POST", "/predict", False),
        ("GET", "/predict", True),
        ("POST", "/reload", True),
        ("GET", "/healthz", True),
        ("GET", "/v2/models/landuse", True),
    ],
)
def test_others_are_answered(method: str, path: str, is_full: bool) -> None:
    assert answer_to(method, path, is_full) is None


def test_the_form_is_the_routes() -> None:
    for path, kind in (("/predict", dict), ("/v2/models/landuse/infer", str)):
        answer = answer_to("POST", path, is_full=True)
        assert answer is not None
        head, _, body = answer.partition(b"\r\n\r\n")
        assert isinstance(json.loads(body)["error"], kind)
        assert f"content-length: {len(body)}\r\n".encode() in head and b"retry-after: 1" in head
