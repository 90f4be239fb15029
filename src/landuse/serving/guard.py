"""uvicorn's HTTP protocol with limits on what comes before a request is one: connections, headers, patience."""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from landuse.serving.refusal import Refusal

LARGEST_HEADERS = 65_536  # bytes


def guarded(max_connections: int, header_timeout_s: float) -> type[HttpToolsProtocol]:
    """A protocol class with these limits, for uvicorn's configuration.

    A connection beyond ``max_connections`` is told so and closed; so is one that does not send whole headers in time,
    or sends too many of them.
    """

    class Guarded(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _num_bytes = 0  # of headers so far

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                self._refuse(Refusal(503, "There are too many connections: try again in a second.", 1))
            else:
                self._await_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._timer is not None:
                self._num_bytes += len(data)
            super().data_received(data)
            # Of a request with a body, the first bytes of that may have come with the headers.
            if self._timer is not None and self._num_bytes > LARGEST_HEADERS and not self.transport.is_closing():
                self._refuse(Refusal(431, f"The headers have more than {LARGEST_HEADERS:,} bytes."))

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_headers()

        def on_headers_complete(self) -> None:
            self._forget_timer()
            super().on_headers_complete()

        def _await_headers(self) -> None:
            if self._timer is None:
                self._num_bytes = 0
                self._timer = self.loop.call_later(header_timeout_s, self._refuse_late)

        def _forget_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse_late(self) -> None:
            self._refuse(Refusal(408, f"The headers took longer than {header_timeout_s:g} seconds to arrive."))

        def _refuse(self, refusal: Refusal) -> None:
            self._forget_timer()
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_response(refusal))
            self.transport.close()

    return Guarded


def _response(refusal: Refusal) -> bytes:
    body = json.dumps({"error": refusal.describe()}).encode()
    retry = f"retry-after: {refusal.retry_after_s}\r\n" if refusal.retry_after_s else ""
    head = (
        f"HTTP/1.1 {refusal.status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body
