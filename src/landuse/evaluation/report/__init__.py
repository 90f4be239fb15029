"""The report of a run: its folder read (`files`), told in sections, and written as one page (`write`)."""

from landuse.evaluation.report.files import ReportError, read_run
from landuse.evaluation.report.write import report_run, write_report

__all__ = ["ReportError", "read_run", "report_run", "write_report"]
