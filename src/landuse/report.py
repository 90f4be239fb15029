"""python -m landuse.report: write ``report.html`` of ``run=`` anew from the files of the run."""

import logging
from pathlib import Path

from landuse import runs
from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.tracking import logs

log = logging.getLogger(__name__)


def report(config: Config, call: Invocation) -> None:
    """Write the report of ``run=`` (by default the newest run).

    Raises:
        UserError: no such run, or its files cannot be read.
    """
    from landuse.evaluation.report import write_report

    logs.to_stderr()
    log.info("report      %s", write_report(runs.find(config.run, Path(config.outputs))))


def main() -> None:
    """Entry point of landuse-report."""
    run_command("report", report)


if __name__ == "__main__":
    main()
