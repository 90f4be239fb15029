"""The report of a dataset: what is in it, what was found wrong with it, on one page and in PNG files."""

from landuse.data.report.write import write_report

__all__ = ["write_report"]
