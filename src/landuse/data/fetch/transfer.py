"""The transfer of one file over HTTP: resumed, retried, and never taken for whole before it is."""

import logging
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from landuse.addresses import digest, host, shown
from landuse.data.fetch.failures import FetchError, of_network, of_status
from landuse.data.fetch.partial import Partial, Whole
from landuse.data.fetch.places import Login, Place
from landuse.progress import counting_bytes, size

if TYPE_CHECKING:
    from requests import Response

log = logging.getLogger(__name__)

CONNECT_S = 10.0  # at most, until a connection stands
BACKOFF_S = 1.0  # before the second try; doubled from one to the next
LONGEST_WAIT_S = 60.0  # between two tries, whatever the server asks for
CHUNK = 1 << 20  # bytes
SNIFFED = 512  # bytes looked at to tell a web page
PAGE = (b"<!doctype html", b"<html")
ARCHIVES = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # zip, gzip, bzip2, xz, zstandard

pause = time.sleep


@dataclass(frozen=True)
class Limits:
    """How patient a transfer is."""

    timeout_s: float  # without a byte from the server
    retries: int  # tries in a row that brought nothing further, beside the first


def fetch(place: Place, part: Partial, limits: Limits) -> None:
    """Receive the whole file into ``part``, going on from what is there if the server still has the same content.

    A try counts against ``limits.retries`` only where it came no further than those before it.

    Raises:
        FetchError: the server does not give it. What was received is kept if another call can go on from there.
        UserError: it cannot be written.
    """
    login, furthest, num_failed = place.login, part.size, 0
    while True:
        try:
            _receive(place, login, part, limits)
            return
        except FetchError as failure:
            if part.whole is None or (failure.is_final and is_of(place, part.whole)):
                part.discard()
            if isinstance(failure, _NotOpenError) and place.log_in is not None and login is None:
                login = place.log_in()
                continue
            num_failed = 1 if part.size > furthest else num_failed + 1
            furthest = max(furthest, part.size)
            if not failure.again or num_failed > limits.retries:
                raise
            wait_s = _wait(failure, num_failed)
            log.warning("%s; trying again in %.0f s (%d of %d)", failure.cause, wait_s, num_failed, limits.retries)
        pause(wait_s)


class _NotOpenError(FetchError):
    """The server wants to know who asks."""


def _wait(failure: FetchError, num_failed: int) -> float:
    """Seconds until the next try: what the server asks, or twice as long each time, spread so that clients part."""
    if failure.wait_s is not None:
        return min(failure.wait_s, LONGEST_WAIT_S)
    return float(min(BACKOFF_S * 2 ** (num_failed - 1) * random.uniform(0.75, 1.25), LONGEST_WAIT_S))


def _receive(place: Place, login: Login | None, part: Partial, limits: Limits) -> None:
    """One try."""
    whole = part.whole if is_of(place, part.whole) else None  # another mirror's goes when this one begins to deliver
    if whole is not None and part.size == whole.length:
        return None
    headers = {"Accept-Encoding": "identity"}  # the very bytes of the file, so that they can be counted and resumed
    if whole is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": whole.validator}
    with _answer(place, login, headers, limits.timeout_s) as response:
        status = response.status_code
        if whole is not None and (status == 416 or (status == 206 and not _fits(response, part.size, whole))):
            log.info("%s cannot be resumed there; starting anew", part.target.name)
            part.discard()  # without a range the next request is an ordinary one
        elif status == 206 and whole is not None:
            log.info("%s: going on after %s", part.target.name, size(part.size))
            part.require_space(whole.length)
            return _write(response, part, whole.length, limits.timeout_s, b"")
        elif status == 200:
            if whole is not None:
                log.info("%s has changed or cannot be resumed there; starting anew", part.target.name)
            return _begin(place, response, part, limits.timeout_s)
        else:
            raise _refusal(place, response)
    return _receive(place, login, part, limits)


def is_of(place: Place, whole: Whole | None) -> bool:
    """Whether what was received earlier came from this place."""
    return whole is not None and whole.address == digest(place.url)


@contextmanager
def _answer(place: Place, login: Login | None, headers: dict[str, str], timeout_s: float) -> Iterator["Response"]:
    import requests

    with requests.Session() as session:
        # Beside REQUESTS_CA_BUNDLE, which requests looks at by itself, the variable that the rest of Python knows.
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        limits = min(CONNECT_S, timeout_s), timeout_s
        try:
            response = session.get(place.url, auth=login, headers=headers, stream=True, timeout=limits)
        except (requests.RequestException, OSError, ValueError) as error:
            url = getattr(getattr(error, "request", None), "url", None) or place.url  # of a redirection, if any
            raise of_network(error, url, timeout_s) from error
        with response:
            yield response


def _fits(response: "Response", start: int, whole: Whole) -> bool:
    """Whether the part that came is the one that was asked for, of the same content."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "").strip())
    if found is None or (int(found[1]), int(found[2])) != (start, whole.length):
        return False
    now = response.headers.get("ETag" if whole.validator.startswith('"') else "Last-Modified")
    return now in (None, whole.validator)  # a server that overlooks If-Range gives itself away here


def _refusal(place: Place, response: "Response") -> FetchError:
    status = response.status_code
    if status in (401, 403) and place.log_in is not None and "Authorization" not in response.request.headers:
        return _NotOpenError("it is not open to everybody", "log in")
    if status == 404 and place.missing is not None:
        return place.missing()
    return place.refusals.get(status) or of_status(status, response.url, response.headers.get("Retry-After"))


def _begin(place: Place, response: "Response", part: Partial, timeout_s: float) -> None:
    """Receive the file from its first byte on."""
    length = _length(response)
    head = _read(response, timeout_s, exactly=SNIFFED)
    if _is_page(head, response.headers.get("Content-Type", "")):
        raise _page(place, response)
    validator = response.headers.get("ETag", "")
    if not validator.startswith('"'):  # none, or a weak one, which promises no identical bytes
        validator = response.headers.get("Last-Modified", "")
    can_go_on = validator and length and response.headers.get("Accept-Ranges", "") != "none"
    if length is not None:
        part.require_space(length)
    part.begin(Whole(digest(place.url), validator, length) if can_go_on and length else None)
    _write(response, part, length, timeout_s, head)


def _length(response: "Response") -> int | None:
    text = response.headers.get("Content-Length", "")
    chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
    return int(text) if text.isdigit() and not chunked else None


def _is_page(head: bytes, content_type: str) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith(PAGE) or ("html" in content_type.lower() and not head.startswith(ARCHIVES))


def _page(place: Place, response: "Response") -> FetchError:
    asked, final = host(place.url), shown(response.url)
    how = f"redirects to {final}, which is" if response.history else "answers with"
    cause = f"{asked} {how} a web page, such as one to log in, and no archive"
    return FetchError(cause, "check the address, and whether the network wants you to sign in first", is_final=True)


def _write(response: "Response", part: Partial, length: int | None, timeout_s: float, head: bytes) -> None:
    """Append what the server sends."""
    received = part.size
    try:
        with part.path.open("ab") as file, counting_bytes(part.target.name, received, length) as progress:
            chunk = head or _read(response, timeout_s)
            while chunk:
                file.write(chunk)
                file.flush()  # so that what a killed process received is there to go on from
                received += len(chunk)
                progress(received)
                chunk = _read(response, timeout_s)
    except OSError as error:
        raise part.unwritable(error, length) from error
    except FetchError as failure:
        failure.cause += f" after {received}{f' of {length}' if length is not None else ''} bytes"
        raise
    if length is not None and received != length:
        raise FetchError(f"{host(response.url)} ended after {received} of {length} bytes", "try again", again=True)


def _read(response: "Response", timeout_s: float, exactly: int | None = None) -> bytes:
    """The next bytes, as many as are there at once, or ``exactly`` so many; none at the end."""
    import urllib3.exceptions as urllib3

    try:
        body = response.raw
        received: bytes = body.read1(CHUNK) if exactly is None else body.read(exactly)
    except (urllib3.HTTPError, OSError) as error:
        raise of_network(error, response.url, timeout_s) from error
    return received
