"""The report of a comparison for people: one page and the figure in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landuse.monitoring.detect import columns
from landuse.monitoring.reference import Reference, Rows
from landuse.page.drawing import ORANGE, SKY, WIDTH, drawing, percent_axis, shortened
from landuse.page.markup import Html, tag
from landuse.page.parts import fact_list, figure, number_cell, png, section, table
from landuse.page.wording import significant
from landuse.page.write import page, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN, FEWEST_DRAWN = 12, 4  # distributions in the figure: those that drifted; where none did, the most different
MOST_CLASSES = 12  # in the figure, those whose shares differ most
NUM_BINS = 30


def write_report(
    path: Path, result: dict[str, Any], reference: Reference, rows: Rows, classes: Sequence[str], facts: dict[str, str]
) -> Path:
    """Write the page, and beside it the figure that it shows.

    Args:
        result: of :func:`landuse.monitoring.detect.compare`, of the given reference and rows.
        classes: names of the predicted classes.
        facts: what was compared with what, by name.
    """
    drawn = [test for test in result["tests"] if test["drifted"]][:MOST_DRAWN] or result["tests"][:FEWEST_DRAWN]
    image = path.with_suffix(".png")
    _draw(image, drawn, reference, rows, classes)
    has_drifted = result["state"] == "drift"
    badge = tag("span", "drift" if has_drifted else "no drift", class_="badge unfinished" if has_drifted else "badge")
    header = tag("header", tag("div", tag("h1", "Drift"), badge, class_="title"), tag("p", verdict(result)),
                 fact_list(facts))  # fmt: skip
    caption = "Filled: images of the validation split. Line or diamond: images now. " + (
        "What drifted." if has_drifted else "The most different, though no more than chance explains."
    )
    alt = f"Distributions then and now of {', '.join(test['name'] for test in drawn)}."
    return write_page(path, page("Drift report", header, tag("main",
        section("distributions", "Distributions", figure(png(image), alt, caption, "wide chart")),
        section("tests", "Tests", _table(result["tests"]), _note(result)),
    )))  # fmt: skip


def verdict(result: dict[str, Any]) -> str:
    """The result in a sentence."""
    drifted = [test["name"] for test in result["tests"] if test["drifted"]]
    if not drifted:
        return f"{result['num_images']:,} images are like those that the model was validated on, as far as can be told."
    return (
        f"{result['num_images']:,} images are not like those that the model was validated on: {len(drifted)} of "
        f"{len(result['tests'])} tests say so ({', '.join(drifted[:4])}{' and others' if len(drifted) > 4 else ''})."
    )


def _table(tests: Sequence[dict[str, Any]]) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", test["name"], scope="row"),
            tag("td", tag("span", "drift", class_="badge unfinished") if test["drifted"] else ""),
            tag("td", test["kind"]),
            *(number_cell("" if test[key] is None else significant(test[key])) for key in ("before", "now")),
            number_cell(f"{test['statistic']:.3g}"),
            number_cell(f"{test['adjusted_p_value']:.2g}"),
        )
        for test in tests
    ]
    columns = ["test", "result", "of", "median before", "median now", "statistic", "p-value"]
    return table("The smallest p-value first.", columns, rows, 3)


def _note(result: dict[str, Any]) -> Html:
    return tag(
        "p",
        "The statistic is the largest distance between the two distribution functions, from 0 to 1, of a two-sample "
        "Kolmogorov-Smirnov test; of the predicted classes chi-square. The p-values are corrected for the number of "
        f"tests (Holm): where nothing has changed, the probability of any alarm is {result['alpha']:g} at most.",
        class_="muted small",
    )


def _draw(
    path: Path, tests: Sequence[dict[str, Any]], reference: Reference, rows: Rows, classes: Sequence[str]
) -> None:
    values = {name: (before, now) for _, name, before, now in columns(reference, rows)}
    num_rows = -(-len(tests) // 2)
    with drawing(path, 1.6 * WIDTH, 2.1 * num_rows) as sheet:
        panels = sheet.subplots(num_rows, 2, squeeze=False).ravel()
        for axes, test in zip(panels, tests, strict=False):
            axes.set_title(test["name"])
            if test["kind"] == "classes":
                _draw_classes(axes, reference, rows, classes)
            else:
                _draw_distributions(axes, *values[test["name"]])
        for axes in panels[len(tests) :]:
            axes.axis("off")


def _draw_distributions(axes: "Axes", before: NDArray[np.float32], now: NDArray[np.float32]) -> None:
    low, high = np.percentile(np.concatenate([before, now]), [0.5, 99.5])
    edges = np.linspace(low, max(high, low + 1e-6), NUM_BINS + 1)
    shares = [np.histogram(np.clip(one, edges[0], edges[-1]), edges)[0] / len(one) for one in (before, now)]
    axes.stairs(shares[0], edges, fill=True, color=SKY)
    axes.stairs(shares[1], edges, color=ORANGE, linewidth=1.8)
    percent_axis(axes.yaxis)


def _draw_classes(axes: "Axes", reference: Reference, rows: Rows, classes: Sequence[str]) -> None:
    before, now = (
        np.bincount(one.predicted, minlength=len(classes)) / len(one.predicted) for one in (reference.rows, rows)
    )
    shown = np.sort(np.argsort(-np.abs(now - before), kind="stable")[:MOST_CLASSES])[::-1]
    places = np.arange(len(shown))
    axes.barh(places, before[shown], 0.8, color=SKY)
    axes.plot(now[shown], places, "D", color=ORANGE, markersize=4)
    axes.set_yticks(places, [shortened(classes[i], 16) for i in shown], fontsize=7)
    axes.locator_params(axis="x", nbins=5)
    percent_axis(axes.xaxis)
