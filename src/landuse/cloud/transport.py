"""HTTP with one deadline for everything, and failures of the network as a sentence.

google-auth takes a :class:`Client` as its transport, so that fetching a token keeps to the same deadline.
"""

import contextlib
import email.utils
import functools
import http.client
import json
import queue
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from landuse.errors import UserError

T = TypeVar("T")

OVERLOADED = (429, 500, 502, 503, 504)
LARGEST_ANSWER = 1_000_000  # bytes; what is asked for takes a few thousand
SECRET_FORM = re.compile(r"ya29\.\S+|[\w+/=.-]{100,}")  # an access token; a JWT or base64 of any kind


def shown(text: object, limit: int = 240) -> str:
    """A text from a server or a setting, fit for a message: one line, cut, and without anything like a key or token."""
    line = " ".join(str(text).split())
    if "PRIVATE KEY" in line or line.startswith("{"):
        return "(hidden: it looks like a key)"
    line = SECRET_FORM.sub("(hidden)", line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


@dataclass(frozen=True)
class Answer:
    """What a server said. Redirections are answers too: following one would hand the token to another host."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def json(self) -> dict[str, Any] | None:
        """The body as a JSON object; None where it is anything else, such as the page of a captive portal."""
        try:
            content = json.loads(self.data)
        except ValueError:
            return None
        return content if isinstance(content, dict) else None


class Client:
    """Requests that all end by one deadline.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self.clock_skew_s = 0.0  # how far this machine's clock is ahead of the server that answered last
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._waiting_for: list[str] = []

    def side_by_side(self, *jobs: Callable[[], T]) -> list[T]:
        """Results of the jobs, in their order, each done in a thread of its own.

        The threads are daemons, left behind when time is up: a name lookup that hangs cannot be interrupted.

        Raises:
            UserError: time is up. Whatever a job raises is raised as well.
        """
        done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()

        def work(index: int, job: Callable[[], T]) -> None:
            try:
                done.put((index, job(), None))
            except BaseException as error:  # handed over to the caller's thread
                done.put((index, None, error))

        for i, job in enumerate(jobs):
            threading.Thread(target=work, args=(i, job), daemon=True).start()
        results: dict[int, T] = {}
        for _ in jobs:
            try:
                index, result, error = done.get(timeout=self._remaining())
            except queue.Empty:
                raise UserError(self._time_is_up()) from None
            if error is not None:
                raise error
            results[index] = result
        return [results[i] for i in range(len(jobs))]

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Answer:
        """One request, with the signature of google-auth's transports.

        Raises:
            UserError: no answer, or one that says the server is overloaded.
        """
        host = urlsplit(url).netloc.rpartition("@")[2]
        limit = max(0.01, min(timeout or self._seconds, self._remaining()))
        request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)
        with self._waiting(host):
            try:
                with self._opener(request.type).open(request, timeout=limit) as response:
                    answer = Answer(response.status, dict(response.headers.items()), response.read(LARGEST_ANSWER))
            except (OSError, http.client.HTTPException) as error:
                raise UserError(self._unreachable(url, error)) from error
        self._note_clock(response.headers.get("date"))
        if answer.status in OVERLOADED:
            raise UserError(f"{host} answers {answer.status}, a trouble of its own: try again in a few minutes.")
        return answer

    def _remaining(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    @contextlib.contextmanager
    def _waiting(self, host: str) -> Iterator[None]:
        self._waiting_for.append(host)
        try:
            yield
        finally:
            self._waiting_for.remove(host)

    def _opener(self, scheme: str) -> urllib.request.OpenerDirector:
        opener = urllib.request.OpenerDirector()  # bare: any status is an answer, nothing is followed
        opener.add_handler(urllib.request.ProxyHandler())
        opener.add_handler(urllib.request.HTTPHandler())
        if scheme == "https":
            opener.add_handler(urllib.request.HTTPSHandler(context=self._trusted))
        return opener

    @functools.cached_property
    def _trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # the system's certificates, or SSL_CERT_FILE: what gcsfs trusts as well

    def _note_clock(self, date: str | None) -> None:
        with contextlib.suppress(ValueError):
            self.clock_skew_s = time.time() - email.utils.parsedate_to_datetime(date or "").timestamp()

    def _time_is_up(self) -> str:
        hosts = " and ".join(sorted(set(self._waiting_for))) or "the network"
        longer = "or allow a slow line more time, such as storage.timeout_s=10"
        return f"No answer from {hosts} within {self._seconds:.1f} s: check the network connection and proxy, {longer}."

    def _unreachable(self, url: str, error: Exception) -> str:
        host, proxy = urlsplit(url).netloc.rpartition("@")[2], proxy_of(url)
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        way = f"{host} (through the proxy {proxy})" if proxy else host
        if isinstance(reason, TimeoutError):
            return self._time_is_up().replace("the network within", f"{way} within")
        if isinstance(reason, socket.gaierror):
            cure = "check the network connection, the DNS server and the spelling (endpointurl, HTTPS_PROXY)"
            return f"The name {proxy or host} cannot be resolved: {cure}."
        if isinstance(reason, ssl.SSLCertVerificationError):
            cure = "if a proxy re-signs HTTPS, name its certificates in SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
            return f"The certificate of {host} is not trusted ({reason.verify_message}): {cure}."
        if isinstance(reason, ssl.SSLError) and not isinstance(reason, ssl.SSLEOFError):
            return f"{way} does not speak TLS: if it is an emulator, its endpointurl begins with http://."
        if isinstance(reason, ConnectionRefusedError):
            return f"{way} refuses the connection: check that it is running, the port, and endpointurl or the proxy."
        if isinstance(reason, http.client.HTTPException | ConnectionError | ssl.SSLEOFError):
            cure = "check the address (endpointurl), the proxy and the firewall"
            return f"{way} breaks the connection off without an answer: {cure}."
        return f"{way} cannot be reached ({shown(reason)}): check the network connection, the proxy and the firewall."


def proxy_of(url: str) -> str:
    """Host and port of the proxy for this address, without the password it may carry; empty if there is none."""
    parts = urlsplit(url)
    address = urllib.request.getproxies().get(parts.scheme, "")
    if not address or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return address.partition("://")[2].rpartition("@")[2].rstrip("/") or address.rpartition("@")[2]
