"""The service's web page: one document that loads nothing else, and the policy that has the browser enforce this."""

import base64
import hashlib
from importlib import resources
from string import Template

POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SCRIPTS = ("script.js", "facts.js", "map.js")  # which become one


def render() -> tuple[bytes, str]:
    """Return the page as UTF-8, and the value of the header Content-Security-Policy to send along.

    The policy allows the page's own style and script by their checksums, so that no other text in it, wherever it came
    from, is ever executed.
    """
    style, script = _read("style.css"), "\n".join(map(_read, SCRIPTS))
    page = Template(_read("index.html")).substitute(style=style, script=script)
    return page.encode(), POLICY.format(style=_checksum(style), script=_checksum(script))


def _read(name: str) -> str:
    return (resources.files(__name__) / name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    """A source as Content Security Policy Level 3 writes it, section 2.3.1."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
