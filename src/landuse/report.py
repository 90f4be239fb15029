"""python -m landuse.report: write ``report.html`` of ``run=`` anew from the files of the run."""

import csv
import logging
from pathlib import Path

from landuse import runs
from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.files import replacing
from landuse.tracking import logs

log = logging.getLogger(__name__)

CURVES = ("epoch", "lr", "train/loss", "val/loss", "val/accuracy")


def report(config: Config, call: Invocation) -> None:
    """Write the report of ``run=`` (by default the newest run).

    Raises:
        UserError: no such run, or its files cannot be read.
    """
    logs.to_stderr()
    log.info("report      %s", write(runs.find(config.run, Path(config.outputs))))


def write(folder: Path) -> Path:
    """Draw the curves of a run and write its report.html; returns the latter's path.

    Raises:
        UserError: the run's files are missing or cannot be read.
    """
    from landuse.evaluation import figures
    from landuse.evaluation.report import read_run, write_report

    run = read_run(folder)
    if run.history:
        figures.curves(run.history, folder / "figures" / "curves.png", run.summary["best_epoch"])
        _write_curves(run.history, folder / "figures" / "curves.csv")
    return write_report(folder)


def _write_curves(history: list[dict[str, float]], path: Path) -> None:
    """What the curves show as a table: metrics.jsonl without the times, so that equal runs give equal files."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CURVES, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history)


def main() -> None:
    """Entry point of landuse-report."""
    run_command("report", report)


if __name__ == "__main__":
    main()
