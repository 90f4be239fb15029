"""HTML that is escaped by default, built from nested calls."""

import html


class Html(str):
    """Text that is markup already and is inserted as it is; any other string is escaped."""


def tag(name: str, *children: str, **attributes: str | None) -> Html:
    """Return `<name attributes>children</name>` with every child and attribute escaped, save those that are `Html`.

    A trailing underscore of an attribute is dropped and the others become hyphens (`class_`, `aria_label`); an
    attribute that is None is left out. Without children, the elements that have no end tag get none.
    """
    spelled = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in ("img", "meta") else f"</{name}>"
    return Html(f"<{name}{spelled}>{join(*children)}{end}")


def join(*parts: str) -> Html:
    """Put parts side by side, escaping those that are not `Html`."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))
