"""An HTTP server on loopback that misbehaves as it is told, path by path."""

import hashlib
import io
import re
import ssl
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from landuse.config.schema import ArchiveConfig


def packed(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


CONTENT = packed({"a/1.png": b"the archive's content" * 10_000, "b/1.png": b""})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"\n<!DOCTYPE html><title>Log in</title>"


class Handler(BaseHTTPRequestHandler):
    """One request; ``answer`` functions write what they like."""

    site: "Site"

    def do_GET(self) -> None:
        self.site.seen.append(Seen(self.path, dict(self.headers.items())))
        self.site.answers.get(self.path.partition("?")[0], status(404))(self)

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


Answer = Callable[[Handler], None]


@dataclass
class Seen:
    """A request."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


class Server(ThreadingHTTPServer):
    """A client that has left is no event."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Site:
    """The server; use as a context manager."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[Seen] = []
        self.ends = threading.Event()  # what hangs goes on when the test is over
        self._server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"site": self}))
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Site":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        self._server.shutdown()
        self._server.server_close()

    def speak_tls(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def has(self, path: str, *answers: Answer) -> str:
        """Let the path answer so, one after the other and then the last for ever; gives its address."""
        waiting = list(answers)
        self.answers[path] = lambda handler: (waiting.pop(0) if len(waiting) > 1 else waiting[0])(handler)
        return self.url + path

    def archive(self, *answers: Answer, **keys: Any) -> ArchiveConfig:
        """The configuration of an archive at /a.zip that answers so."""
        return archive(self.has("/a.zip", *answers), **keys)


def archive(url: str, **keys: Any) -> ArchiveConfig:
    return ArchiveConfig(**{"url": url, "sha256": SHA256, "timeout": 5.0, "retries": 2} | keys)


def whole(content: bytes = CONTENT, etag: str = '"1"', breaks_at: int | None = None, **headers: object) -> Answer:
    """The file, or the range that is asked for; breaks off at that byte of the file."""

    def answer(handler: Handler) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(found[1]) if found and handler.headers.get("If-Range") == etag else 0
        extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        handler.head(
            206 if start else 200, Content_Length=len(content) - start,
            **{"ETag": etag, "Content-Type": "application/zip"} | extra | headers,
        )  # fmt: skip
        handler.wfile.write(content[start:breaks_at])

    return answer


def plain(content: bytes = CONTENT, **headers: object) -> Answer:
    """The file and just these headers; ranges are overlooked."""

    def answer(handler: Handler) -> None:
        handler.head(200, **headers)
        handler.wfile.write(content)

    return answer


def status(code: int, **headers: object) -> Answer:
    return lambda handler: handler.head(code, **headers)


def redirect(to: str) -> Answer:
    return status(302, Location=to)


def stalls(after: int = 50_000) -> Answer:
    """Sends so many bytes and then nothing more."""

    def answer(handler: Handler) -> None:
        handler.head(200, ETag='"1"', Content_Length=len(CONTENT))
        handler.wfile.write(CONTENT[:after])
        handler.wfile.flush()
        handler.site.ends.wait()

    return answer
