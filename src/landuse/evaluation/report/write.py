"""The report of a run: one HTML file that needs no network, no script and no other file."""

from importlib import resources
from pathlib import Path
from string import Template

from landuse.evaluation.report import sections
from landuse.evaluation.report.evaluation import evaluation
from landuse.evaluation.report.files import RunFiles, read_run
from landuse.evaluation.report.markup import Html, join, tag
from landuse.files import replacing


def write_report(run_dir: Path) -> Path:
    """Write `<run_dir>/report.html` from the files in the run folder alone; the same files give the same page.

    Needed are `config.yaml`, `metrics.jsonl`, `summary.json` and `provenance.json`; `evaluation.json` and
    `figures/*.png` are shown where they exist.

    Returns:
        The path of the page, which replaces an older one at once.

    Raises:
        ReportError: when a needed file is missing or a file is not what it should be.
    """
    page = _page(read_run(run_dir))
    path = run_dir / "report.html"
    with replacing(path) as temporary:
        # replace: a lone surrogate, which JSON can express and UTF-8 cannot, must not cost the whole page.
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return path


def _page(run: RunFiles) -> str:
    assets = resources.files("landuse.evaluation.report") / "assets"
    main = tag(
        "main",
        sections.training(run),
        evaluation(run),
        sections.further_figures(run),
        sections.configuration(run),
        sections.repeat(run),
    )
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        title=join(f"{sections.title(run)}: run report"),
        style=Html((assets / "page.css").read_text(encoding="utf-8").strip()),
        body=join(sections.header(run), main),
    )
