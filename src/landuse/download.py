"""python -m landuse.download: fetch and verify the archive of ``data=``."""

import hashlib
import logging
from pathlib import Path

from landuse.cli import Invocation, run_command
from landuse.config.schema import Config, DataConfig
from landuse.config.validate import validate_data
from landuse.data import split
from landuse.data.archive import obtain
from landuse.data.sources import open_source
from landuse.files import write_json
from landuse.tracking import logs

log = logging.getLogger(__name__)


def download(config: Config, call: Invocation) -> None:
    """Download the archive unless it is there; datasets that have none need nothing.

    Raises:
        UserError: it cannot be fetched, or its content is not the expected one.
    """
    validate_data(config.data)
    logs.to_stderr(config.log)
    checksum = None
    if config.data.source == "archive":
        archive = obtain(config.data.archive, Path(config.data.home))
        checksum = archive.checksum
        log.info("%s verified (%s)", archive.path, checksum)
    else:
        log.info("data=%s needs no download", config.data.name)
    if config.data.manifest is not None:
        content = {
            "name": config.data.name,
            "source": config.data.source,
            "checksum": checksum,
            **_of_files(config.data),
        }
        write_json(Path(config.data.manifest), content)


def _of_files(data: DataConfig) -> dict[str, str]:
    """What tells whether images or lists of the user's own have changed."""
    content = split.digests(data)
    if data.source == "folder":
        source = open_source(data)
        content["folder"] = source.identity or source.identify(
            [hashlib.sha256(source.fetch(i)).digest() for i in range(len(source.paths))]
        )
    return content


def main() -> None:
    """Entry point of landuse-download."""
    run_command("download", download)


if __name__ == "__main__":
    main()
