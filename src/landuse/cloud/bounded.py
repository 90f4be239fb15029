"""Answers of a server that are whole in good time and of a size to be expected, or none."""

import queue
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import requests

LARGEST_BYTES = 64 << 20


def bounded(ask: Callable[[], requests.Response], within_s: float, largest: int = LARGEST_BYTES) -> requests.Response:
    """The response with its whole body.

    A time limit of requests is for each piece that arrives, and a name lookup has none. So the asking is done in a
    thread, a daemon that is left behind when time is up.

    Args:
        ask: sends the request, with ``stream=True``.
        within_s: from now to the body's last byte.
        largest: bytes of a body.

    Raises:
        requests.RequestException: time is up, or the body is larger. Whatever ``ask`` raises is raised as well.
    """
    done: queue.SimpleQueue[tuple[requests.Response | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            with closing(ask()) as response:
                _read(response, largest)
            done.put((response, None))
        except BaseException as error:  # handed over to the caller's thread
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        response, error = done.get(timeout=within_s)
    except queue.Empty:
        raise requests.Timeout(f"no whole answer within {within_s:.0f} s") from None
    if error is not None:
        raise error
    assert response is not None
    return response


def _read(response: requests.Response, largest: int) -> None:
    data = bytearray()
    for piece in response.iter_content(1 << 16):
        data += piece
        if len(data) > largest:
            raise requests.RequestException(f"an answer of more than {largest >> 20} MB")
    response._content = bytes(data)  # where requests itself puts what it has read


def object_in(response: requests.Response) -> dict[str, Any]:
    """The body as a JSON object; of no body an empty one.

    Raises:
        ValueError: it is anything else, such as the page of a proxy or captive portal.
    """
    if not response.content:
        return {}
    try:
        content = response.json()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("no object")
    return content
