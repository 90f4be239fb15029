"""The sections of a sweep's report, each a function from its records to HTML; the figures are in `charts`."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from landuse.page.drawing import shortened
from landuse.page.markup import Html, join, tag
from landuse.page.parts import fact_list, names_table, navigation, number_cell, section, table
from landuse.page.wording import duration
from landuse.sweeps.records import FINISHED, SweepRecord, TrialRecord, repeats
from landuse.sweeps.report.reading import (
    EPOCHS_KEY,
    epochs_saved,
    metric_name,
    metric_text,
    overrides,
    short_value_text,
    value_text,
)

NUM_LEADING = 10  # rows of the leaderboard that are seen at once
MAX_ROWS = 300  # of a table; leaderboard.csv has them all
MAX_FAILURES = 50
MAX_REASON_LINES, MAX_REASON_LENGTH = 6, 300  # what is longer stands in error.txt
MAX_VALUE_LENGTH = 28  # in the leaderboard


def header(record: SweepRecord, contents: dict[str, str]) -> Html:
    """What won, how the trials ended, and links to the sections (``contents``: anchor -> heading)."""
    is_finished = record.num_finished >= record.n_trials
    status, kind = ("finished", "badge") if is_finished else ("unfinished", "badge unfinished")
    badge = tag("span", status, class_=kind)
    return tag(
        "header",
        tag("div", tag("h1", f"Sweep {record.name}"), badge, class_="title"),
        _headline(record),
        tag("p", _progress(record)),
        fact_list(_facts(record)),
        navigation(contents),
    )


def _headline(record: SweepRecord) -> Html:
    best = record.best()
    if not best:
        return tag("p", "No result: no trial has completed.", class_="headline")
    goal = ", ".join(f"{metric_name(o.name)} ({o.direction})" for o in record.objectives)
    first, objective = best[0], record.objectives[0]
    by = f"by trial {first.number} with {overrides(first.params)}" if first.params else f"by trial {first.number}"
    texts = [tag("p", f"best {metric_name(objective.name)}, {by}")]
    if len(record.objectives) > 1:
        front = f"{len(best)} trials are" if len(best) > 1 else "1 trial is"
        texts.append(tag("p", f"{front} on the Pareto front of {goal}.", class_="muted"))
    elif objective.name.startswith("val/"):
        note = "The best of many trials, chosen on the validation split: the test split will be somewhat less kind."
        texts.append(tag("p", note, class_="muted small"))
    number = tag("strong", metric_text(objective.name, first.values[0]))
    return tag("div", number, tag("div", *texts), class_="headline")


def _progress(record: SweepRecord) -> str:
    counts = {state: record.count(state) for state in ("failed", "interrupted", "running", "waiting")}
    counts["still to begin"] = max(0, record.n_trials - record.num_finished - counts["running"] - counts["waiting"])
    rest = [f"{count} {what}" for what, count in counts.items() if count]
    epochs = sum(trial.epochs for trial in record.trials)
    sentences = [
        f"{record.progress}: {record.count('complete')} completed, {record.count('pruned')} pruned.",
        f"Besides: {', '.join(rest)}." if rest else "",
        f"All together trained {epochs:,} {'epoch' if epochs == 1 else 'epochs'}.",
    ]
    saved = epochs_saved(record)
    if saved:
        against = "the epochs set for each" if EPOCHS_KEY in record.keys else "the longest completed trial"
        sentences.append(f"Pruning saved about {saved:,} more, counted against {against}.")
    return " ".join(filter(None, sentences))


def _facts(record: SweepRecord) -> dict[str, str]:
    facts = {
        "Completed": str(record.count("complete")),
        "Pruned": str(record.count("pruned")),
        "Failed": str(record.count("failed")),
        "Epochs trained": f"{sum(trial.epochs for trial in record.trials):,}",
    }
    if epochs_saved(record):
        facts["Saved by pruning"] = f"{epochs_saved(record):,} epochs"
    seconds = [trial.seconds for trial in record.trials if trial.seconds is not None]
    if seconds:
        facts["Time of all trials"] = duration(max(0.0, sum(seconds)))
    return facts


def failures(record: SweepRecord, folder: Path) -> Html:
    """Trials that failed, and why; nothing where none did."""
    failed = [trial for trial in record.trials if trial.state == "failed"]
    if not failed:
        return Html()
    rows = [
        tag(
            "tr",
            tag("th", str(trial.number), scope="row"),
            tag("td", *_reason(trial.reason)),
            tag("td", tag("code", overrides(trial.params))),
            tag("td", _link(trial, "error.txt", folder, "error.txt")),
        )
        for trial in failed[:MAX_FAILURES]
    ]
    if len(failed) > MAX_FAILURES:
        rows.append(_more(len(failed) - MAX_FAILURES, 4))
    what = "One trial failed; it does" if len(failed) == 1 else f"{len(failed)} trials failed; they do"
    note = tag("p", f"{what} not count towards the {record.n_trials} asked for.", class_="warning")
    return section("failures", "Failures", note, table(None, ["trial", "reason", "overrides", "in full"], rows, 4))


def _reason(reason: str) -> list[Html]:
    lines = [line for line in reason.splitlines() if line.strip()] or ["No reason is on record."]
    # Of a traceback, the end says what happened.
    shown = lines if len(lines) <= MAX_REASON_LINES else ["…", *lines[1 - MAX_REASON_LINES :]]
    return [tag("div", shortened(line, MAX_REASON_LENGTH)) for line in shown]


def best(record: SweepRecord, folder: Path, retrain: str | None) -> Html:
    """The best trial or, of several objectives, the Pareto front, and how to train it once more."""
    found = record.best()
    if not found:
        return section("best", "Best trial", tag("p", "No trial has completed yet."))
    if len(record.objectives) > 1:
        note = (
            "What is better than one of these trials in one objective is worse in another."
            f" The first has the best {metric_name(record.objectives[0].name)}."
        )
        again = _again(f"To train trial {found[0].number}, the first, again:", retrain)
        return section("best", "Pareto front", tag("p", note), _trials_table(record, found, folder), again)
    first, objective = found[0], record.objectives[0]
    facts = [
        ("Trial", _link(first, "report.html", folder, str(first.number))),
        (metric_name(objective.name).capitalize(), metric_text(objective.name, first.values[0])),
        ("Epochs", str(first.epochs)),
        ("Time", "none" if first.seconds is None else duration(max(0.0, first.seconds))),
    ]
    params = [(_breakable(key), tag("code", value_text(value))) for key, value in first.params.items()]
    tables = names_table("The best trial", facts), names_table("Overrides of the best trial", params)
    return section("best", "Best trial", tag("div", *tables, class_="pair"), _again("To train it again:", retrain))


def _again(words: str, command: str | None) -> Html:
    return Html() if command is None else join(tag("p", words), tag("pre", tag("code", command)))


def seeds(record: SweepRecord) -> Html:
    """Mean and spread of configurations that were trained with several seeds; nothing where none was."""
    repeated = repeats(record)
    if not repeated:
        return Html()
    name = record.objectives[0].name
    rows = [
        tag(
            "tr",
            *(tag("td", text) for text in (metric_text(name, r.mean), metric_text(name, r.spread), str(len(r.values)))),
            tag("td", tag("code", overrides(r.params))),
        )
        for r in repeated
    ]
    note = "Completed trials that differ by their seed alone, together: how far results spread by chance."
    columns = [f"mean {metric_name(name)}", "standard deviation", "seeds", "overrides"]
    return section("seeds", "Over seeds", tag("p", note, class_="muted"), table(None, columns, rows, len(columns)))


def leaderboard(record: SweepRecord, folder: Path) -> Html:
    """All trials, best first; those after the leading ones are unfolded on demand."""
    ranked = record.ranked()
    if not ranked:
        return section("leaderboard", "Leaderboard", tag("p", "No trial has been started."))
    rest = Html()
    if len(ranked) > NUM_LEADING:
        count = len(ranked) - NUM_LEADING
        summary = tag("summary", f"{count:,} more {'trial' if count == 1 else 'trials'}")
        rest = tag("details", summary, _trials_table(record, ranked[NUM_LEADING:], folder, NUM_LEADING + 1))
    note = f"Completed trials by {metric_name(record.objectives[0].name)}, then the others by epochs trained."
    leading = _trials_table(record, ranked[:NUM_LEADING], folder, 1)
    return section("leaderboard", "Leaderboard", tag("p", note, class_="muted"), leading, rest)


def _trials_table(
    record: SweepRecord, trials: Sequence[TrialRecord], folder: Path, first_rank: int | None = None
) -> Html:
    """A row a trial with a column for each objective and each swept key; ranks are shown where one is given."""
    front = {trial.number for trial in record.best()}
    rows = []
    for position, trial in enumerate(trials[:MAX_ROWS]):
        place = str(first_rank + position) if first_rank is not None and trial.state in FINISHED else ""
        rank = [] if first_rank is None else [tag("td", place)]
        is_best = first_rank is not None and trial.number in front
        rows.append(tag("tr", *rank, *_cells(record, trial, folder), class_="best" if is_best else None))
    metrics = [metric_name(objective.name) for objective in record.objectives]
    columns = ["trial", "state", *metrics, "epochs", "time", *map(_breakable, record.keys)]
    if first_rank is not None:
        columns.insert(0, "rank")
    if len(trials) > MAX_ROWS:
        rows.append(_more(len(trials) - MAX_ROWS, len(columns)))
    return table(None, columns, rows, columns.index("state") + 1)


def _cells(record: SweepRecord, trial: TrialRecord, folder: Path) -> list[Html]:
    values = [metric_text(o.name, value) for o, value in zip(record.objectives, trial.values, strict=False)]
    seconds = "" if trial.seconds is None else duration(max(0.0, trial.seconds))
    params = [short_value_text(trial.params[key]) if key in trial.params else "" for key in record.keys]
    return [
        tag("td", _link(trial, "report.html", folder, str(trial.number))),
        tag("td", trial.state),
        *map(number_cell, values or [""] * len(record.objectives)),
        number_cell(str(trial.epochs)),
        number_cell(seconds),
        *(number_cell(shortened(text, MAX_VALUE_LENGTH)) for text in params),
    ]


def _breakable(key: str) -> str:
    """A dotted key that a narrow heading may break after its dots."""
    return value_text(key).replace(".", ".\u200b")


def _more(count: int, num_columns: int) -> Html:
    return tag("tr", tag("td", f"and {count:,} more in leaderboard.csv", colspan=str(num_columns)))


def _link(trial: TrialRecord, file: str, folder: Path, text: str) -> Html:
    """A link from the page in ``folder`` to a file of the trial's run; the text alone where there is no such file."""
    path = Path(trial.run) / file
    if not trial.run or not path.is_file():
        return join(text)
    try:
        relative = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # Windows, another drive
        return join(text)
    return tag("a", text, href=quote(relative))
