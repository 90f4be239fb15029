"""The report of a run: one HTML file that needs no network, no script and no other file."""

import csv
from pathlib import Path

from landuse.evaluation import figures
from landuse.evaluation.report import sections
from landuse.evaluation.report.card import write_card
from landuse.evaluation.report.evaluation import evaluation, robustness
from landuse.evaluation.report.files import RunFiles, read_run
from landuse.files import replacing
from landuse.page.markup import tag
from landuse.page.write import page, write_page

CURVES = ("epoch", "lr", "train/loss", "val/loss", "val/accuracy")


def report_run(folder: Path) -> Path:
    """Draw the curves of a run, write its model's card and its report.html; returns the latter's path.

    Raises:
        ReportError: the run's files are missing or cannot be read.
    """
    run = read_run(folder)
    if run.history:
        figures.curves(run.history, folder / "figures" / "curves.png", run.summary["best_epoch"])
        _write_curves(run.history, folder / "figures" / "curves.csv")
    if (folder / "model" / "model.json").is_file() and not (folder / "model").is_symlink():  # a link may lead anywhere
        write_card(run)
    return write_report(folder)


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
        robustness(run),
        sections.further_figures(run),
        sections.configuration(run),
        sections.repeat(run),
    )
    return page(f"{sections.title(run)}: run report", sections.header(run), main)


def _write_curves(history: list[dict[str, float]], path: Path) -> None:
    """What the curves show as a table: metrics.jsonl without the times, so that equal runs give equal files."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CURVES, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history)
