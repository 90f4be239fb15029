"""Numbers as people read them."""

NBSP = "\u00a0"  # keeps a number and its unit on one line
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0.934 as "93.4 %"; None, where nothing was measured, as "none"."""
    return "none" if share is None else f"{100 * share:.{digits}f}{NBSP}%"


def significant(value: float | None) -> str:
    """Four significant digits; None as "none"."""
    return "none" if value is None else f"{value:.4g}"


def magnitude(count: int) -> str:
    """A large count with three significant digits, such as "11.2 million"; a small one in full."""
    for factor, unit in ((10**9, "billion"), (10**6, "million")):
        if count >= factor:
            return f"{count / factor:.3g}{NBSP}{unit}"
    return f"{count:,}"


def duration(seconds: float) -> str:
    """At most two units, such as "12 min 43 s"; below ten seconds with one decimal."""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    rest, parts = round(seconds), []
    for size, unit in UNITS:
        if rest >= size:
            parts.append(f"{rest // size}{NBSP}{unit}")
            rest %= size
    return " ".join(parts[:2])
