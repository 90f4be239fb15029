"""uvicorn's HTTP protocol with limits on connections, headers, bodies that nobody reads, and patience."""

import asyncio
import json
import re
from collections.abc import Callable

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from landuse.serving.refusal import Refusal

LARGEST_HEADERS = 65_536  # bytes
MOST_PIPELINED = 32  # requests of one connection that wait for an answer
# A client's offer to speak HTTP/2, which stock clients of Java make with every first request. uvicorn takes no body
# after it, so that the body would be read as a request.
OFFER = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
NO_OFFER = b"\r\nx-offer:"  # as long, so that nothing else moves


Shed = Callable[[str, str], bytes | None]  # of a method and a path


class Guarded(HttpToolsProtocol):
    """One connection; :func:`guarded` says what the limits are."""

    max_connections: int
    max_bytes: int
    timeout_s: float
    shed: Shed | None
    _timer: asyncio.TimerHandle | None = None  # for the sender
    _reader: asyncio.TimerHandle | None = None  # for who does not read
    _is_sending = False  # a request is on its way
    _has_headers = False  # and its headers are here
    _num_bytes = 0  # of it so far

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(Refusal(503, "There are too many connections: try again in a second.", 1))
        else:
            self._arm(self.timeout_s, self._refuse_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._num_bytes += len(data)
        if not self._has_headers and b"pgrade" in data:
            head, end, body = data.partition(b"\r\n\r\n")
            data = OFFER.sub(NO_OFFER, head) + end + body
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._has_headers and self._num_bytes > LARGEST_HEADERS:
            self._refuse(Refusal(431, f"The headers have more than {LARGEST_HEADERS:,} bytes."))
        elif self._is_sending and self._num_bytes > 2 * self.max_bytes + LARGEST_HEADERS:
            self.transport.abort()
        elif not self._is_sending and self._is_idle() and not (self._timer or self.timeout_keep_alive_task):
            self._arm(self.timeout_s, self._refuse_late)  # uvicorn's own timer ended with bytes that begin nothing

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests at once")  # becomes a parser's error, and the connection ends
        super().on_message_begin()
        self._is_sending, self._has_headers, self._num_bytes = True, False, 0
        self._arm(self.timeout_s, self._refuse_late)

    def on_headers_complete(self) -> None:
        self._has_headers = True
        if self.parser.should_upgrade():
            raise ValueError("an upgrade is not possible")
        self._arm(2 * self.timeout_s, self._cut)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_sending, self._has_headers, self._num_bytes = False, False, 0
        self._disarm()
        if self._is_idle() and self.timeout_keep_alive_task is None:  # it was answered before its body was here
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # Who waits to be told to go on sends no body after another answer, and where the connection ends with the
        # answer the body has to be read before, or the client might not come to read why: both are refused as usual.
        answer = None
        if self.shed is not None and cycle.keep_alive and not cycle.waiting_for_100_continue:
            answer = self.shed(cycle.scope["method"], cycle.scope["path"])
        if answer is None:
            super()._start_asgi_task(cycle, app)
            return
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers)
        self.transport.write(b"HTTP/1.1 429 Too Many Requests\r\n" + lines + answer)
        cycle.response_started = cycle.response_complete = True  # what comes of its body is passed over
        self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refusal(400, msg))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader = self._reader or self.loop.call_later(self.timeout_s, self._cut)

    def resume_writing(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        if self.flow is not None:
            super().resume_writing()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _arm(self, seconds: float, action: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, action)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self.transport.abort()

    def _refuse_late(self) -> None:
        self._refuse(Refusal(408, f"The headers took longer than {self.timeout_s:g} seconds to arrive."))

    def _refuse(self, refusal: Refusal) -> None:
        if self._is_idle():
            self.transport.write(_response(refusal))
        self.transport.close()
        self._arm(self.timeout_s, self._cut)  # for who does not read it


def guarded(
    max_connections: int, max_bytes: int, timeout_s: float, shed: Shed | None = None
) -> type[HttpToolsProtocol]:
    """A protocol class with these limits, for uvicorn's configuration.

    Args:
        max_connections: those beyond are told so and closed.
        max_bytes: of a body that is answered; twice as much is read of one that is not, so that its sender comes to
            read why, and then the connection is cut.
        timeout_s: for headers, and between answers for the beginning of the next request; for a body twice as much,
            because the application tells of a slow one first. Who does not read an answer is cut off after it as well.
        shed: gives the answer (429) to a request that is refused unheard, as :class:`landuse.serving.shedding.Shedding`
            does; the application gets the others.
    """
    limits = {"max_connections": max_connections, "max_bytes": max_bytes, "timeout_s": timeout_s, "shed": shed}
    return type("Guarded", (Guarded,), limits)


def _response(refusal: Refusal) -> bytes:
    body = json.dumps({"error": refusal.describe()}).encode()
    retry = f"retry-after: {refusal.retry_after_s}\r\n" if refusal.retry_after_s else ""
    head = (
        f"HTTP/1.1 {refusal.status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body
