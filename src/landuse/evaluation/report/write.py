"""The report of a run: one HTML file that needs no network, no script and no other file."""

from pathlib import Path

from landuse.evaluation.report import sections
from landuse.evaluation.report.evaluation import evaluation
from landuse.evaluation.report.files import RunFiles, read_run
from landuse.page.markup import tag
from landuse.page.write import page, write_page


def write_report(run_dir: Path) -> Path:
    """Write `<run_dir>/report.html` from the files in the run folder alone; the same files give the same page.

    Needed are `config.yaml`, `metrics.jsonl`, `summary.json` and `provenance.json`; `evaluation.json` and
    `figures/*.png` are shown where they exist.

    Returns:
        The path of the page, which replaces an older one at once.

    Raises:
        ReportError: when a needed file is missing or a file is not what it should be.
    """
    return write_page(run_dir / "report.html", _page(read_run(run_dir)))


def _page(run: RunFiles) -> str:
    main = tag(
        "main",
        sections.training(run),
        evaluation(run),
        sections.further_figures(run),
        sections.configuration(run),
        sections.repeat(run),
    )
    return page(f"{sections.title(run)}: run report", sections.header(run), main)
