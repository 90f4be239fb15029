"""One HTML file that needs no network, no script and no other file."""

from importlib import resources
from pathlib import Path
from string import Template

from landuse.files import replacing
from landuse.page.markup import Html, join


def page(title: str, *body: str) -> str:
    """The text of a whole page in the project's style."""
    assets = resources.files("landuse.page") / "assets"
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        title=join(title),
        style=Html((assets / "page.css").read_text(encoding="utf-8").strip()),
        body=join(*body),
    )


def write_page(path: Path, text: str) -> Path:
    """Write a page, which replaces an older one at once."""
    with replacing(path) as temporary:
        # replace: a lone surrogate, which JSON can express and UTF-8 cannot, must not cost the whole page.
        temporary.write_text(text, encoding="utf-8", newline="\n", errors="replace")
    return path
