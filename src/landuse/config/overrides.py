"""Overrides as they are typed."""

import re
import shlex


def quoted(text: str) -> str:
    """A text as the value of an override."""
    if re.fullmatch(r"[\w./:@-]+", text, re.ASCII):
        return text
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single).with_quotes()


def typed(key: str, text: object) -> str:
    """``key=text`` as one argument in a shell."""
    argument = f"{key}={quoted(str(text))}"
    if shlex.quote(argument) == argument or re.search(r'["$`\\!]', argument):
        return shlex.quote(argument)
    return f'"{argument}"'  # which people can read
