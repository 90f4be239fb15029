"""python -m landuse.download: fetch and verify the archive of ``data=``."""

import logging
from pathlib import Path

from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate_data
from landuse.data.archive import obtain
from landuse.files import write_json
from landuse.tracking import logs

log = logging.getLogger(__name__)


def download(config: Config, call: Invocation) -> None:
    """Download the archive unless it is there; datasets that have none need nothing.

    Raises:
        UserError: it cannot be fetched, or its content is not the expected one.
    """
    validate_data(config.data)
    logs.to_stderr()
    checksum = None
    if config.data.source == "archive":
        archive = obtain(config.data.archive, Path(config.data.home))
        checksum = archive.checksum
        log.info("%s verified (%s)", archive.path, checksum)
    else:
        log.info("data=%s needs no download", config.data.name)
    if config.data.manifest is not None:
        content = {"name": config.data.name, "source": config.data.source, "checksum": checksum}
        write_json(Path(config.data.manifest), content)


def main() -> None:
    """Entry point of landuse-download."""
    run_command("download", download)


if __name__ == "__main__":
    main()
