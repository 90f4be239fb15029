"""The one logging set-up of every command: messages on stderr, the same with times in the run folder's log file."""

import logging
import sys
from pathlib import Path

NOISY_LIBRARIES = ("matplotlib", "PIL", "fontTools", "urllib3", "wandb", "torch", "filelock")


def to_stderr() -> None:
    """Log from INFO on to stderr: through rich on a terminal, which keeps a progress bar whole, else plain lines."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in root.handlers[:]:  # a second job in this process replaces the first one's
        root.removeHandler(handler)
        handler.close()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        root.addHandler(RichHandler(console=Console(stderr=True), show_time=False, show_path=False, show_level=False))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
    for name in NOISY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def to_file(path: Path) -> None:
    """Also log to a file, appending."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
