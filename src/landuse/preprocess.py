"""python -m landuse.preprocess: decode, resize, split and pack the images of ``data=``."""

import logging

from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate_data
from landuse.data.pack import prepare
from landuse.tracking import logs

log = logging.getLogger(__name__)


def preprocess(config: Config, call: Invocation) -> None:
    """Make the pack unless it is there; downloads first where need be.

    Raises:
        UserError: the data cannot be had or read.
    """
    validate_data(config.data)
    logs.to_stderr()
    pack = prepare(config.data)
    counts = ", ".join(f"{count} {name}" for name, count in pack.num_images.items())
    log.info("%s: %d classes, %s", pack.folder, len(pack.classes), counts)


def main() -> None:
    """Entry point of landuse-preprocess."""
    run_command("preprocess", preprocess)


if __name__ == "__main__":
    main()
