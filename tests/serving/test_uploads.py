"""Multipart forms, against what a client library writes and against made-up bytes."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landuse.serving.refusal import Refusal
from landuse.serving.uploads import files_of

contents = st.lists(st.binary(max_size=200), min_size=1, max_size=4)


@given(contents, st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_what_a_client_writes_is_read(files: list[bytes], name: str) -> None:
    """Whatever the files and their names hold."""
    parts = [("file", (name or "x", content)) for content in files]
    request = httpx.Request("POST", "http://x", files=parts, data={"note": "y"})
    assert files_of(request.headers["content-type"], request.read(), 4) == files


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_made_up_bytes_are_refused_or_read(body: bytes) -> None:
    for whole in (
        body,
        b"--x\r\n" + body,
        b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n" + body + b"\r\n--x--",
    ):
        status = 200
        try:
            files_of("multipart/form-data; boundary=x", whole, 4)
        except Refusal as refusal:
            status = refusal.status
        assert status in (200, 400, 413, 422)


@pytest.mark.parametrize(
    "content_type",
    [None, "", "image/png", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x",
     f"multipart/form-data; boundary={'x' * 71}", "multipart/form-data; boundary*=x", "\xff"],
)  # fmt: skip
def test_other_types(content_type: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        files_of(content_type, b"--x--", 4)
    assert caught.value.status == 415


def test_preamble_padding_and_case() -> None:
    body = (
        b'ignored\r\n--x \t\r\ncontent-DISPOSITION: form-data; filename="a\\"b"; name="file"\r\n\r\nA\r\n--x\r\n'
        b"Content-Disposition: form-data; name=file\r\n\r\n\r\n--x--\r\nepilogue"
    )
    assert files_of("Multipart/Form-Data; boundary=x", body, 2) == [b"A", b""]


def test_look_alikes_of_the_boundary_take_no_time_of_others() -> None:
    body = b'--xx\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + b"\r\n--x" * 1_000_000 + b"\r\n--xx--"
    assert files_of("multipart/form-data; boundary=xx", body, 1) == [b"\r\n--x" * 1_000_000]


def test_many_parts() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\ny\r\n'
    with pytest.raises(Refusal) as caught:
        files_of("multipart/form-data; boundary=x", part * 100_000 + b"--x--", 4)
    assert caught.value.status == 413
