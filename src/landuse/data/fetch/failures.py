"""Why an address did not give the file, in words; never with a password, a token or a signed query in them."""

import email.utils
import errno
import http.client
import socket
import ssl
import time
from collections.abc import Iterator

from landuse.addresses import host
from landuse.cloud.transport import proxy_of

NOT_THERE = (404, 410)
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
NETWORK = "check the network connection and the proxy (HTTPS_PROXY)"


class FetchError(Exception):
    """Why an address did not give the file.

    Args:
        cause: fits behind "could not be downloaded, because".
        cure: what to do, as a command without a full stop.
        again: trying again may help.
        is_final: the file is not to be had there, so what was received earlier is of no use any more.
        wait_s: how long the server asks to be left alone.
    """

    def __init__(
        self, cause: str, cure: str, *, again: bool = False, is_final: bool = False, wait_s: float | None = None
    ) -> None:
        super().__init__(cause)
        self.cause, self.cure, self.again, self.is_final, self.wait_s = cause, cure, again, is_final, wait_s


def of_status(status: int, url: str, retry_after: str | None) -> FetchError:
    """What a status other than success means.

    Args:
        url: where it came from, redirections followed.
        retry_after: the header of this name.
    """
    name = f"{host(url)} answers {status}"
    phrase = http.client.responses.get(status)
    answer = f"{name} ({phrase})" if phrase else name
    if status in NOT_THERE:
        return FetchError(f"{answer}, as it has no such file", "correct the address", is_final=True)
    if status in (401, 403):
        cure = "check the address, the user and password in it, and whether a signed address has expired"
        return FetchError(f"{answer}, as the file is not open to everybody", cure)
    if status in TRY_AGAIN:
        wait_s = seconds_of(retry_after)
        asks = f" and asks to wait {wait_s:.0f} s" if wait_s else ""
        return FetchError(f"{answer}{asks}, a trouble of its own", "try again later", again=True, wait_s=wait_s)
    return FetchError(answer, "check the address")


def seconds_of(retry_after: str | None) -> float | None:
    """The seconds that the header Retry-After asks for; it holds a number or a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def of_network(error: Exception, url: str, timeout_s: float) -> FetchError:
    """What went wrong on the way, from what requests or urllib3 raised.

    Their own texts hold the whole address, so only the kind of an error is looked at, and that of its causes.
    """
    import requests
    import urllib3.exceptions as urllib3

    proxy = proxy_of(url)
    where = f"{host(url)} (through the proxy {proxy})" if proxy else host(url)
    longer = f"{NETWORK}, or allow more time, such as data.archive.timeout={2 * timeout_s:g}"
    chain = list(_chain(error))

    def found(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if untrusted := next((link for link in chain if isinstance(link, ssl.SSLCertVerificationError)), None):
        cure = "if a proxy re-signs HTTPS, name its certificates in REQUESTS_CA_BUNDLE; else check this machine's clock"
        return FetchError(f"the certificate of {host(url)} is not trusted ({untrusted.verify_message})", cure)
    if "CA certificate bundle" in str(error):
        return FetchError("the file of trusted certificates is missing", "correct REQUESTS_CA_BUNDLE or SSL_CERT_FILE")
    if refused := next((link for link in chain if "Tunnel connection failed" in str(link.args[:1])), None):
        status = str(refused.args[0]).partition("failed:")[2].strip()
        return FetchError(
            f"the proxy {proxy} refuses to connect ({status})", "check HTTPS_PROXY, its user and password"
        )
    if unknown := next((link for link in chain if isinstance(link, socket.gaierror)), None):
        cause = f"the name {proxy or host(url)} cannot be resolved, so this machine is offline or the name is wrong"
        return FetchError(cause, NETWORK, again=unknown.errno == socket.EAI_AGAIN)
    if found(ConnectionRefusedError):
        cause = f"{where} refuses the connection, as nothing listens there"
        return FetchError(cause, "check the address, the port and the proxy (HTTPS_PROXY)", again=True)
    if any(getattr(link, "errno", None) in (errno.ENETUNREACH, errno.EHOSTUNREACH) for link in chain):
        return FetchError(f"there is no way to {where}, so this machine is offline", NETWORK, again=True)
    if found(urllib3.ConnectTimeoutError):
        return FetchError(f"{where} cannot be reached within {timeout_s:g} s", longer, again=True)
    if found(TimeoutError, urllib3.TimeoutError):
        return FetchError(f"no byte came from {where} for {timeout_s:g} s", longer, again=True)
    if found(ssl.SSLError) and not found(ssl.SSLEOFError):
        return FetchError(f"{where} does not speak TLS", "check whether the address begins with http:// instead")
    if found(ConnectionError, http.client.HTTPException, urllib3.ProtocolError, ssl.SSLEOFError):
        return FetchError(f"{where} broke the connection off", NETWORK, again=True)
    if found(requests.TooManyRedirects):
        return FetchError(f"{host(url)} redirects in circles", "check the address")
    return FetchError(
        f"{where} cannot be used ({type(error).__name__})", "check the address and the proxy (HTTPS_PROXY)"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it; urllib3 and requests keep causes in several places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
