"""The sections of the page, each a function from the runs to HTML."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from landuse.evaluation.comparing.figures import class_scores
from landuse.evaluation.comparing.pairs import Pair
from landuse.evaluation.comparing.reading import Compared, over_seeds
from landuse.evaluation.comparing.statistics import mean_interval
from landuse.page.markup import Html, join, tag
from landuse.page.parts import figure, navigation, number_cell, section, table
from landuse.page.wording import NBSP, duration, magnitude, percent, significant

SECTIONS = {"result": "Result", "difference": "Chance or not", "curves": "Curves", "classes": "Classes",
            "settings": "What differs"}  # fmt: skip
MADE = ("git_commit", "git_dirty", "source_hash", "lock_hash", "python", "torch", "cuda", "platform",
        "data_fingerprint", "split_fingerprint")  # fmt: skip
LONGEST_VALUE = 60  # characters
ALPHA = 0.05


def header(compared: Sequence[Compared]) -> Html:
    """Which runs these are, and links."""
    return tag(
        "header",
        tag("div", tag("h1", f"{len(compared)} runs compared"), class_="title"),
        tag("p", join(*(tag("code", f"{one.files.shown_folder} ") for one in compared)), class_="muted small"),
        navigation(SECTIONS),
    )


def result(compared: Sequence[Compared]) -> Html:
    """Scores and cost of each run, the best first; and means over seeds where there are several."""
    best = compared[0].label
    rows = (_result_row(one, is_best=one.label == best) for one in compared)
    columns = ["run", "accuracy", "95 % interval", "macro F1", "loss", "calibration error", "validation accuracy",
               "parameters", "epochs", "training", "images/s"]  # fmt: skip
    return section("result", SECTIONS["result"], table("The best first.", columns, rows, 1), _seeds(compared))


def _result_row(one: Compared, is_best: bool) -> Html:
    record, summary = one.evaluation, one.files.summary
    scores = ["not evaluated", "", "", "", ""]
    if record is not None:
        low, high = record["accuracy_ci95"]
        scores = [percent(record["accuracy"]), f"{100 * low:.1f} to {percent(high)}", percent(record["macro_f1"]),
                  significant(record["loss"]), percent(record["ece"])]  # fmt: skip
    rate = summary["images_per_second"]
    cost = [percent(summary["val/accuracy"]), magnitude(summary["parameters"]), str(len(one.files.history)),
            duration(summary["train_seconds"]), "" if rate is None else f"{rate:,.0f}"]  # fmt: skip
    cells = (number_cell(text) for text in (*scores, *cost))
    return tag("tr", tag("th", one.label, scope="row"), *cells, class_="best" if is_best else None)


def _seeds(compared: Sequence[Compared]) -> Html:
    """Mean and interval of runs that differ in their seed alone."""
    rows = []
    for group in over_seeds(compared):
        mean, low, high = mean_interval([one.evaluation["accuracy"] for one in group.values() if one.evaluation])
        shown = (str(len(group)), percent(mean, 2), f"{percent(low, 2)} to {percent(high, 2)}")
        names = ", ".join(one.label for one in group.values())
        rows.append(tag("tr", tag("th", names, scope="row"), *map(number_cell, shown)))
    if not rows:
        return Html()
    caption = "Runs that differ in their seed alone: what another seed would give lies about the mean."
    columns = ["runs", "seeds", "mean accuracy", "95 % interval of the mean"]
    return join(tag("h3", "Over seeds"), table(caption, columns, rows, 1))


def difference(same: Sequence[Compared], pairs: Sequence[Pair], left_out: Mapping[str, str]) -> Html:
    """Each run against the best, on the same images; and which cannot be compared so."""
    unpaired = [tag("p", f"{label}: {why}.", class_="warning") for label, why in left_out.items()]
    if not pairs:
        nothing = tag("p", "There are no two runs that were evaluated on the same images.")
        return section("difference", SECTIONS["difference"], nothing, *unpaired)
    best = same[0]
    num_images, num_different = pairs[0].paired.num_images, sum(pair.p_corrected < ALPHA for pair in pairs)
    verdict = (
        f"{best.label} is more accurate than {num_different} of {len(pairs)} other(s) by more than chance would give on"
        f" these {num_images:,} images."
        if num_different
        else f"No run differs from {best.label} by more than chance would give on these {num_images:,} images."
    )
    method = (
        "Paired on the same test images: exact McNemar test, p values corrected by Holm for all pairs of runs, for the"
        " best is found on these images as well; intervals after Agresti and Min. It tells these trained models apart;"
        " whether the recipe is better, only several seeds tell."
    )
    columns = ["run", f"against {best.label}", "95 % interval", "right in the best alone", "right in this alone", "p",
               "p, corrected", "different"]  # fmt: skip
    return section(
        "difference", SECTIONS["difference"], tag("p", verdict), table(None, columns, map(_pair_row, pairs), 1),
        tag("p", method, class_="muted small"), *unpaired,
    )  # fmt: skip


def _pair_row(pair: Pair) -> Html:
    low, high = pair.paired.interval
    numbers = (
        f"{100 * pair.paired.difference:+.2f}{NBSP}points", f"{100 * low:+.2f} to {100 * high:+.2f}",
        f"{pair.paired.only_first:,}", f"{pair.paired.only_second:,}", _p(pair.paired.p_value), _p(pair.p_corrected),
    )  # fmt: skip
    verdict = "yes" if pair.p_corrected < ALPHA else "not shown"
    return tag("tr", tag("th", pair.other.label, scope="row"), *map(number_cell, numbers), tag("td", verdict))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def curves(drawn: bytes | None, compared: Sequence[Compared]) -> Html:
    """The curves over each other."""
    if drawn is None:
        return section("curves", SECTIONS["curves"], tag("p", "No epoch was finished."))
    alt = "Validation accuracy, validation loss and training loss by epoch, a line for each run: " + ", ".join(
        f"{one.label} ends at {percent(one.files.history[-1]['val/accuracy'])}" for one in compared if one.files.history
    )
    caption = "A line a run; where they still fall, longer training may help."
    return section("curves", SECTIONS["curves"], figure(drawn, f"{alt}.", caption))


def classes(drawn: bytes | None, compared: Sequence[Compared]) -> Html:
    """F1 of each class in each run that was evaluated on the same images, the largest differences first."""
    if not compared:
        return section("classes", SECTIONS["classes"], tag("p", "There are no two runs to compare.", class_="muted"))
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(
                tag("td", tag("strong", percent(score)) if score == max(scores) > min(scores) else percent(score),
                    class_="number")
                for score in scores
            ),
        )
        for name, scores in class_scores(compared)
    ]  # fmt: skip
    shown = table("F1, the largest differences first.", ["class", *(one.label for one in compared)], rows, 1)
    alt = "F1 of every class in every run. The numbers are in the table that follows."
    return section("classes", SECTIONS["classes"], figure(drawn, alt, "A row a class, a mark a run."), shown)


def settings(compared: Sequence[Compared]) -> Html:
    """Keys of the configuration and facts of the making that are not the same everywhere."""
    names = [one.label for one in compared]
    made = [_made(one) for one in compared]
    config = _differing([one.config for one in compared])
    parts = [
        table("Keys of the configuration that differ.", ["key", *names], _value_rows(config), 1 + len(names))
        if config
        else tag("p", "Their configurations are the same.")
    ]
    if others := _differing(made):
        parts += [tag("h3", "How they were made"), table(None, ["", *names], _value_rows(others), 1 + len(names))]
    return section("settings", SECTIONS["settings"], *parts)


def _made(one: Compared) -> dict[str, Any]:
    """Commit, versions, machine, data: flat, without what differs between any two runs."""
    provenance = one.files.provenance
    hardware = provenance.get("hardware")
    flat = {key: provenance.get(key) for key in MADE}
    return flat | {f"hardware.{key}": value for key, value in (hardware if isinstance(hardware, dict) else {}).items()}


def _differing(trees: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    keys = sorted({key for tree in trees for key in tree} - {"run_name", "experiment_name"})
    columns = {key: [tree.get(key, "") for tree in trees] for key in keys}  # a key may be another model's alone
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values)}


def _value_rows(columns: dict[str, list[Any]]) -> Iterable[Html]:
    for key, values in columns.items():
        cells = (tag("td", tag("code", _value(value)), class_="name") for value in values)
        yield tag("tr", tag("th", tag("code", key), scope="row"), *cells)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
