"""The one logging set-up of every command: messages on stderr, the same with times in the run folder's log file."""

import logging
import sys
from pathlib import Path

NOISY_LIBRARIES = ("matplotlib", "PIL", "fontTools", "urllib3", "wandb", "torch", "filelock")

_installed: list[logging.Handler] = []  # by this module; those of others (a test runner's) are left alone


def to_stderr() -> None:
    """Log from INFO on to stderr: through rich on a terminal, which keeps a progress bar whole, else plain lines.

    A second job in the same process starts afresh: the handlers of the first, its log file included, are closed.
    """
    while _installed:
        handler = _installed.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()
    logging.getLogger().setLevel(logging.INFO)
    _install(_terminal() if sys.stderr.isatty() else logging.StreamHandler(), "%(message)s")
    for name in NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def to_file(path: Path) -> None:
    """Also log to a file, appending."""
    _install(logging.FileHandler(path, encoding="utf-8"), "%(asctime)s %(levelname)s %(name)s: %(message)s")


def _install(handler: logging.Handler, form: str) -> None:
    handler.setFormatter(logging.Formatter(form))
    logging.getLogger().addHandler(handler)
    _installed.append(handler)


def _terminal() -> logging.Handler:
    from rich.console import Console
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler

    console = Console(stderr=True, soft_wrap=True)
    return RichHandler(
        console=console, show_time=False, show_path=False, show_level=False, highlighter=NullHighlighter()
    )
