"""The outermost layer of the service: who may ask, what is refused at once, what is counted and logged."""

import asyncio
import hmac
import itertools
import json
import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from landuse.serving.logs import event
from landuse.serving.metrics import Metrics
from landuse.serving.refusal import Refusal
from landuse.serving.traces import Tracer

# The page, health checks and the API's description: a link cannot show a key, and none of these tells about the model.
OPEN_ROUTES = ("/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")
OPEN_FOLDER = "/docs/assets/"
ROUTES = (
    "/predict",
    "/map",
    "/model",
    "/healthz",
    "/readyz",
    "/metrics",
    "/drift",
    "/samples",
    "/reload",
    "/docs",
    "/v2",
)
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Front:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer, api_key: str | None) -> None:
        """
        Args:
            api_key: asked of every request but the page and health checks; None: of none.
        """
        self._app, self._metrics, self._tracer = app, metrics, tracer
        self._api_key = None if api_key is None else api_key.encode()
        self._ids = (f"{secrets.token_hex(4)}-{number:x}" for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        headers = dict(scope["headers"])
        request_id = self._request_id(headers)
        scope["state"]["request_id"] = request_id.decode()

        if scope["method"] == "HEAD":  # the answer to GET, of which uvicorn sends the headers alone
            scope = {**scope, "method": "GET"}

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), *SECURITY]
            await send(message)

        route = route_of(scope["path"])
        with self._tracer.span(route, headers) as span:
            try:
                if (refusal := self._refusal(scope, headers)) is not None:
                    self._metrics.refused(refusal.code)
                    await _respond(refusal, scope, observed)
                else:
                    await self._app(scope, receive, observed)
            except asyncio.CancelledError:  # what is under way when the time to stop has passed
                if not status:
                    await _respond(Refusal(503, "The service has stopped."), scope, observed)
            except Exception:  # which the application has answered already
                logging.getLogger(__name__).exception("a request failed")
            span.end(status)
        seconds = time.perf_counter() - started
        self._metrics.request(route, status, seconds)
        fields = {"request_id": request_id.decode(), "route": route, "status": status, "ms": round(1e3 * seconds, 2)}
        event("request", fields)

    def _request_id(self, headers: dict[bytes, bytes]) -> bytes:
        given = headers.get(b"x-request-id", b"")
        return given if REQUEST_ID.fullmatch(given) else next(self._ids).encode()

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Refusal | None:
        path = scope["path"]
        if self._api_key is not None and path not in OPEN_ROUTES and not path.startswith(OPEN_FOLDER):
            scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
            shown = headers.get(b"x-api-key") or (bearer if scheme.lower() == b"bearer" else b"")
            if not hmac.compare_digest(shown, self._api_key):
                return Refusal(401, "This service asks for a key: send it in the header X-API-Key.")
        return None


SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


def route_of(path: str) -> str:
    """The route for counting: there are few of them, whatever clients ask for."""
    if path == "/":
        return path
    return next((route for route in ROUTES if path == route or path.startswith(route + "/")), "other")


def encoded(refusal: Refusal, scope: Scope) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a refusal; under /v2 in the form of the open inference protocol."""
    request_id = scope["state"].get("request_id")
    content = refusal.message if scope["path"].startswith("/v2") else refusal.describe(request_id)
    headers = {}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(refusal.retry_after_s)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.status == 408 or any(name == b"expect" for name, _ in scope["headers"]):
        headers["connection"] = "close"  # of the one the rest may come at any time, of the other perhaps never
    return json.dumps({"error": content}).encode(), headers


async def _respond(refusal: Refusal, scope: Scope, send: Send) -> None:
    body, headers = encoded(refusal, scope)
    headers |= {"content-type": "application/json", "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
