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
    logs.to_stderr()
    folder = runs.find(config.run, Path(config.outputs), config.tracking.timeout_s)

    runs.require_own_figures(folder)
    from landuse.evaluation.report import report_run

    log.info("report      %s", report_run(folder))


def main() -> None:
    """Entry point of landuse-report."""
    run_command("report", report)


if __name__ == "__main__":
    main()
