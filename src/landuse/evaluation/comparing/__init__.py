"""Several runs beside each other on one page, and whether their accuracies differ by more than chance."""

from landuse.evaluation.comparing.write import compare_runs

__all__ = ["compare_runs"]
