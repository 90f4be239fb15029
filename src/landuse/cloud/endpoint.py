"""Where Google's APIs are asked: at their own addresses, or at a server of this machine that stands for them."""

import os
from urllib.parse import urlsplit, urlunsplit

from landuse.errors import UserError

VARIABLE = "LANDUSE_CLOUD_ENDPOINT"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def redirected(url: str) -> str:
    """The address itself, or the same path at the endpoint that the environment names.

    Raises:
        UserError: the endpoint is no address, or plain HTTP to another machine, where the token could be read on the
            way.
    """
    endpoint = os.environ.get(VARIABLE)
    if not endpoint:
        return url
    try:
        there, parts = urlsplit(endpoint), urlsplit(url)
    except ValueError as error:
        raise UserError(f"{VARIABLE}={endpoint} is no address ({error}).") from error
    if there.scheme != "https" and not (there.scheme == "http" and there.hostname in LOOPBACK):
        raise UserError(f"{VARIABLE}={endpoint} must begin with https://; http:// is for this machine alone.")
    return urlunsplit((there.scheme, there.netloc, parts.path, parts.query, ""))
