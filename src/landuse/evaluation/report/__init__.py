"""The report of a run: its folder read (`files`), told in sections, and written as one page (`write`)."""

from landuse.evaluation.report.files import ReportError
from landuse.evaluation.report.write import write_report

__all__ = ["ReportError", "write_report"]
