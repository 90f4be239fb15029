"""The report of a sweep: what won, what failed, and what the trials tell of the keys, on one page and in PNG files."""

from landuse.sweeps.report.write import write_report

__all__ = ["write_report"]
