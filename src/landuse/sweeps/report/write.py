"""Writing the report of a sweep: figures first, then the page that shows them."""

from pathlib import Path

from landuse.page.markup import tag
from landuse.page.parts import section
from landuse.page.write import page, write_page
from landuse.sweeps.records import SweepRecord
from landuse.sweeps.report import sections
from landuse.sweeps.report.charts import charts


def write_report(record: SweepRecord, folder: Path, retrain: str | None) -> Path:
    """Write ``sweep.html`` and the PNG files below ``figures/``; what is too little for a figure gives a sentence.

    Args:
        record: the sweep as it stands, with any number of trials in any state.
        folder: of the sweep; links to runs are relative to it.
        retrain: the shell command that trains the best trial again, or None.

    Returns:
        The page.
    """
    shown = charts(record, folder / "figures")
    failures = sections.failures(record, folder)
    contents = {"failures": "Failures"} if failures else {}
    contents["best"] = "Best"
    if over_seeds := sections.seeds(record):
        contents["seeds"] = "Seeds"
    contents |= {"leaderboard": "Leaderboard", "progress": "Progress", "keys": "Keys", "timeline": "Timeline"}
    tops = [shown["pareto"], shown["importance"]] if "pareto" in shown else [shown["importance"]]
    body = tag(
        "main",
        failures,
        sections.best(record, folder, retrain),
        over_seeds,
        sections.leaderboard(record, folder),
        section("progress", "Progress", tag("div", shown["history"], shown["curves"], class_="pair")),
        section("keys", "Keys", tag("div", *tops, class_="pair"), shown["parallel"], shown["slices"]),
        section("timeline", "Timeline", shown["timeline"]),
    )
    text = page(f"{record.name}: sweep report", sections.header(record, contents), body)
    return write_page(folder / "sweep.html", text)
