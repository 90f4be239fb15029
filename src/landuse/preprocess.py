"""python -m landuse.preprocess: decode, check, split and pack the images of ``data=``, and report on them."""

import logging
from dataclasses import replace

from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate_data
from landuse.data.pack import check_quality, make
from landuse.tracking import logs

log = logging.getLogger(__name__)


def preprocess(config: Config, call: Invocation) -> None:
    """Make the pack and its report unless they are there; downloads first where need be.

    Raises:
        UserError: the data cannot be had or read, or are not what ``data.quality`` asks for.
    """
    validate_data(config.data)
    logs.to_stderr(config.log)
    pack = make(config.data)
    counts = ", ".join(f"{count} {name}" for name, count in pack.num_images.items())
    log.info("%s: %d classes, %s", pack.folder, len(pack.classes), counts)
    page = pack.report_folder / "report.html"
    if not page.is_file():
        from landuse.data.report import write_report  # draws, which takes longer to import than all the rest

        whole = pack if config.data.max_images is None else make(replace(config.data, max_images=None))
        page = write_report(whole)
    log.info("report      %s", page)
    check_quality(pack, config.data)


def main() -> None:
    """Entry point of landuse-preprocess."""
    run_command("preprocess", preprocess)


if __name__ == "__main__":
    main()
