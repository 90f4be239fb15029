"""The body of a request, read within limits: bytes, files and time. Nothing is written to disk."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from landuse.serving.refusal import Refusal, busy, too_large

FIELD = b"file"
LARGEST_HEAD = 16_384  # bytes of the headers of one part
LONGEST_BOUNDARY = 70  # bytes (RFC 2046, section 5.1.1)
FIELDS_PER_FILE = 4  # a form may have other fields, which are passed over
HOW_TO_SEND = "send multipart/form-data with an image in the field 'file'"


class Budget:
    """Bytes that uploads may hold at once, of all requests together."""

    def __init__(self, num_bytes: int) -> None:
        self.free = num_bytes

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """What one request takes of it, given back at its end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.free += share.taken


class Share:
    """What one request has taken of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.taken = budget, 0

    def take(self, num_bytes: int) -> None:
        """Take more.

        Raises:
            Refusal: there is not so much left (429).
        """
        if num_bytes > self._budget.free:
            raise busy()
        self._budget.free -= num_bytes
        self.taken += num_bytes


async def read_body(request: Request, share: Share, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body, which ``share`` is charged for.

    Raises:
        Refusal: it is too large (413) or too slow (408), the client has gone (400), or all that may be held of uploads
            is (429).
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > max_bytes:
        raise too_large(max_bytes)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise too_large(max_bytes)
                share.take(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise Refusal(408, f"The request took longer than {timeout_s:g} seconds to arrive.") from None
    except ClientDisconnect:
        raise Refusal(400, "The connection ended before the request was complete.") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def files_of(content_type: str | None, body: bytes, max_files: int) -> list[bytes]:
    """The contents of the field ``file`` of a multipart form (RFC 7578), in order; file names are not looked at.

    The body is here as a whole, so cutting it at its boundary takes one search. A parser for streams goes through
    look-alikes of the boundary byte by byte, which for a body made of them would hold up all other requests.

    Raises:
        Refusal: it is no such form (415), is damaged (400), holds no file (422), or too many (413).
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= LONGEST_BOUNDARY:
        raise Refusal(415, f"The request is no form with files: {HOW_TO_SEND}.")
    most_parts = FIELDS_PER_FILE * max_files
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, most_parts + 1)
    files = []
    for part in parts[:most_parts]:
        if part.startswith(b"--"):
            break
        head, separator, content = part.lstrip(b" \t").partition(b"\r\n\r\n")
        if not separator or not head.startswith(b"\r\n") or len(head) > LARGEST_HEAD:
            raise Refusal(400, f"The form is damaged: {HOW_TO_SEND}.")
        if _field(head) == FIELD:
            files.append(content)
    else:
        if len(parts) > most_parts:
            raise Refusal(413, f"A request may hold {max_files} files at most.")
        raise Refusal(400, f"The form has no end: {HOW_TO_SEND}.")
    if not files:
        raise Refusal(422, f"The form holds no file: {HOW_TO_SEND}.")
    if len(files) > max_files:
        raise Refusal(413, f"A request may hold {max_files} files at most.")
    return files


def _field(head: bytes) -> bytes:
    """The name of the form's field that a part of it belongs to."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return parse_options_header(value.strip())[1].get(b"name", b"")
    return b""
