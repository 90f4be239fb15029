"""Addresses as they may be shown and kept: without passwords, and without queries, which may be signatures."""

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit


def shown(url: str) -> str:
    """The address without user, password, query and fragment; of a malformed one, what is left of it."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, separator, rest = bare.partition("://")
    if not separator:
        return bare
    try:
        _ = urlsplit(url).port
        authority, slash, path = rest.partition("/")
        rest = authority.rpartition("@")[2] + slash + path
    except ValueError:  # where its parts end is anybody's guess, so everything is cut that may belong to a password
        rest = rest.rpartition("@")[2]
    return scheme + separator + rest


def named(place: str) -> str:
    """A path as it is, and an address as it may be shown."""
    return shown(place) if "://" in place else place


def without_passwords(value: Any) -> Any:
    """Plain values, with every address in their texts as it may be shown; text for text where nothing is to hide."""
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_passwords(item) for item in value]
    return re.sub(r"\w+://[^\s'\"]+", lambda found: shown(found[0]), value) if isinstance(value, str) else value


def host(url: str) -> str:
    """Host and port, as shown to people."""
    return urlsplit(url).netloc.rpartition("@")[2]


def digest(url: str) -> str:
    """What tells addresses apart on disk. A signature renewed does not make another address of it."""
    return hashlib.sha256(shown(url).encode()).hexdigest()[:16]
