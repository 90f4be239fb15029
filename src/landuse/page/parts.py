"""What the sections of a page are made of: tables, figures, bars."""

import base64
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from landuse.page.markup import Html, tag

CSS_PIXELS_PER_PIXEL = 0.5  # figures are drawn at double density
NARROWEST = 0.8  # a wide figure is not shrunk below this, but scrolled, to keep its text legible


def section(anchor: str, heading: str, *content: str) -> Html:
    """A section of the page, named by its heading, that `#anchor` leads to."""
    return tag("section", tag("h2", heading, id=f"{anchor}-heading"), *content,
               id=anchor, aria_labelledby=f"{anchor}-heading")  # fmt: skip


def table(caption: str | None, columns: list[str], rows: Iterable[Html], num_text_columns: int) -> Html:
    """A table that scrolls where it is too wide; columns after the first `num_text_columns` are numbers."""
    heads = [
        tag("th", column, scope="col", class_="number" if index >= num_text_columns else None)
        for index, column in enumerate(columns)
    ]
    captions = [] if caption is None else [tag("caption", caption)]
    content = tag("table", *captions, tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    return scrolled(caption or "Table", content)


def names_table(label: str, pairs: Iterable[tuple[str, str]]) -> Html:
    """A table of two columns, a name and its value."""
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in pairs)
    return tag("table", tag("tbody", *rows), class_="names", aria_label=label)


def fact_list(pairs: Mapping[str, str]) -> Html:
    """Names and values side by side, at a glance."""
    return tag("dl", *(tag("div", tag("dt", key), tag("dd", value)) for key, value in pairs.items()), class_="facts")


def navigation(sections: Mapping[str, str]) -> Html:
    """Links to sections; ``sections``: anchor -> heading."""
    links = (tag("li", tag("a", heading, href=f"#{anchor}")) for anchor, heading in sections.items())
    return tag("nav", tag("ul", *links), aria_label="Sections")


def number_cell(text: str) -> Html:
    """A table cell whose figures align with those above and below."""
    return tag("td", text, class_="number")


def bar(share: float) -> Html:
    """A share of 0..1 as a bar; decoration beside the number, which screen readers are given instead."""
    return tag("span", tag("i", style=f"width:{100 * share:.1f}%"), class_="bar", aria_hidden="true")


def figure(
    content: bytes | None, alt: str, caption: str, kind: Literal["chart", "wide chart", "photo"] = "chart"
) -> Html:
    """A PNG file as a data URI with its caption; nothing for None.

    Charts turn dark on a dark page, photographs do not; a wide chart scrolls where it would become illegible.
    """
    if content is None:
        return Html()
    width, height = (round(side * CSS_PIXELS_PER_PIXEL) for side in _png_size(content))
    image = tag(
        "img",
        src="data:image/png;base64," + base64.b64encode(content).decode("ascii"),
        alt=alt,
        width=str(width),
        height=str(height),
        style=f"min-width:{round(NARROWEST * width)}px" if kind == "wide chart" else None,
    )
    shown = scrolled("Wide figure", image) if kind == "wide chart" else image
    return tag("figure", shown, tag("figcaption", caption), class_=kind)


def png(path: Path) -> bytes | None:
    """The content of a figure's file, or None where it was not drawn."""
    return path.read_bytes() if path.is_file() else None


def scrolled(label: str, content: Html) -> Html:
    """Content that scrolls sideways on its own, so that the page never does."""
    # tabindex: what scrolls by touch must scroll by keyboard as well.
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def _png_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header chunk, which the format puts first."""
    width, height = struct.unpack(">II", content[16:24])
    return width, height
