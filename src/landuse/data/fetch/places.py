"""What an address means: which HTTP request it is, who asks, and what a refusal means there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from landuse.data.fetch.failures import FetchError

if TYPE_CHECKING:
    from requests import PreparedRequest

Login = Callable[["PreparedRequest"], "PreparedRequest"]  # adds credentials to a request, as requests calls it


@dataclass(frozen=True)
class Place:
    """A file that an HTTP server has."""

    url: str  # http(s); may hold a signature
    login: Login | None = None  # requests takes what it added out again when a redirection leads to another host
    refusals: dict[int, FetchError] = field(default_factory=dict)  # what these statuses mean at this service
    log_in: Callable[[], Login] | None = None  # asked once where the file turns out not to be open to everybody
    missing: Callable[[], FetchError] | None = None  # says what a 404 means


def bearer(token: str) -> Login:
    """Credentials of the form "Authorization: Bearer ..."."""

    def add(request: "PreparedRequest") -> "PreparedRequest":
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return add


def basic(user: str, password: str) -> Login:
    """A user's name and password."""
    from requests.auth import HTTPBasicAuth

    return HTTPBasicAuth(user, password)


def find(url: str, timeout_s: float) -> Place:
    """The place that an https, http, gs or kaggle address means.

    Raises:
        FetchError: it needs an account, and there is none.
    """
    from landuse.data.fetch import gcs, kaggle

    parts = urlsplit(url)
    if parts.scheme == "gs":
        return gcs.find(url, timeout_s)
    if parts.scheme == "kaggle":
        return kaggle.find(url)
    if parts.username is None:
        return Place(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return Place(bare, basic(unquote(parts.username), unquote(parts.password or "")))
