"""The sections of a run's report but the evaluation, each a function from the run's files to HTML.

The files count epochs from 0; people, and so all that is shown here, from 1.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from landuse.evaluation.report.files import RunFiles
from landuse.page.markup import Html, tag
from landuse.page.parts import fact_list, figure, names_table, navigation, number_cell, section, table
from landuse.page.wording import NBSP, duration, magnitude, percent, significant

SECTIONS = [
    "Training",
    "Evaluation",
    "Robustness",
    "Configuration",
    "Repeat",
]  # as linked at the top; in lower case, their anchors
# Keys of `metrics.jsonl` with their heading and how their values are written.
EPOCH_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "train/loss": ("training loss", "{:.4f}".format),
    "val/loss": ("validation loss", "{:.4f}".format),
    "val/accuracy": ("validation accuracy", percent),
    "lr": ("learning rate", "{:.2e}".format),
    "images_per_second": ("images/s", "{:,.0f}".format),
    "seconds": ("seconds", "{:,.1f}".format),
}
# Dotted keys of `provenance.json` that stand beside the curves.
RECORDED_FACTS = {"hardware.device_name": "Device", "hardware.precision": "Precision", "seed": "Seed"}
FIGURES_OF_SECTIONS = {"curves", "confusion", "reliability", "per_class", "mistakes", "robustness"}
STATUS_NOTES = {
    "interrupted": "The numbers are those of the best epoch so far.",
    "failed": "train.log in the run folder says why. The numbers are those of the best epoch so far.",
    "pruned": "The sweep stopped this trial early, because others did better at this point.",
}


def title(run: RunFiles) -> str:
    """Model and data of the run, such as "resnet18 on ucmerced"."""
    return f"{_group_name(run.config, 'model')} on {_group_name(run.config, 'data')}"


def header(run: RunFiles) -> Html:
    """What the run is, how it ended, its one number, and links to the sections."""
    status = run.summary["status"]
    badge = tag("span", status, class_="badge unfinished" if status in STATUS_NOTES else "badge")
    return tag(
        "header",
        tag("div", tag("h1", title(run)), badge, class_="title"),
        tag("p", tag("code", run.shown_folder), class_="muted"),
        _unfinished_note(run),
        _headline(run),
        _facts(run),
        navigation({name.lower(): name for name in SECTIONS if name != "Robustness" or run.robustness is not None}),
    )


def training(run: RunFiles) -> Html:
    """Curves, and every epoch as a table."""
    if not run.history:
        return section("training", "Training", tag("p", "No epoch was finished."))
    last = run.history[-1]
    alt = (
        f"Curves over {len(run.history)} epochs. In the last, training loss {last['train/loss']:.3f},"
        f" validation loss {last['val/loss']:.3f}, validation accuracy {percent(last['val/accuracy'])}."
    )
    caption = "The dotted line marks the epoch whose weights were kept; it was chosen on the validation split."
    return section(
        "training",
        "Training",
        tag("div", figure(run.figures.get("curves"), alt, caption), _training_facts(run), class_="pair"),
        tag("details", tag("summary", "Epoch by epoch"), _epoch_table(run)),
    )


def further_figures(run: RunFiles) -> Html:
    """Figures that others have put into the folder of figures; nothing where there are none."""
    names = [name for name in run.figures if name not in FIGURES_OF_SECTIONS]
    if not names:
        return Html()
    figures = (figure(run.figures.get(name), f"Figure {name}", name) for name in names)
    return section("figures", "Further figures", *figures)


def configuration(run: RunFiles) -> Html:
    """The resolved configuration and where the run came from."""
    return section(
        "configuration",
        "Configuration and provenance",
        tag("details", tag("summary", "Resolved configuration"), tag("pre", tag("code", run.config_text))),
        tag("h3", "Provenance"),
        names_table(
            "Provenance", ((key.replace("_", " "), tag("code", value)) for key, value in _flattened(run.provenance))
        ),
    )


def repeat(run: RunFiles) -> Html:
    """The commands that make this run again."""
    commit, command_line = run.provenance.get("git_commit"), run.provenance.get("command_line")
    lines = [f"git checkout {commit}", "make setup"] if commit else []
    if command_line:
        lines.append(str(command_line))
    if run.evaluation is not None:
        lines.append("python -m landuse.evaluate")
    note = Html()
    if run.provenance.get("git_dirty"):
        note = tag("p", "The code had changes that were not committed, so the commit alone does not repeat this run.",
                   class_="warning")  # fmt: skip
    return section("repeat", "Repeat this run", note, tag("pre", tag("code", "\n".join(lines))))


def _unfinished_note(run: RunFiles) -> Html:
    status = run.summary["status"]
    if status not in STATUS_NOTES:
        return Html()
    ended = tag("strong", f"{status.capitalize()} after {_epochs(run)}. ")
    return tag("p", ended, STATUS_NOTES[status], class_="warning")


def _headline(run: RunFiles) -> Html:
    """The accuracy: on the evaluated split with its interval, else on the validation split."""
    record = run.evaluation
    if record is not None:
        lower, upper = record["accuracy_ci95"]
        return tag(
            "div",
            tag("strong", percent(record["accuracy"])),
            tag(
                "div",
                tag("p", f"accuracy on {record['num_images']:,} images of the {record['split']} split"),
                tag("p", f"95{NBSP}% interval {percent(lower)} to {percent(upper)}", class_="muted"),
                _range(record["accuracy"], lower, upper),
            ),
            class_="headline",
        )
    accuracy = run.summary["val/accuracy"]
    if accuracy is None:
        return tag("p", "No result: no epoch was finished.", class_="headline")
    note = "The epoch was chosen on this split, so the number is somewhat optimistic."
    texts = (tag("p", f"validation accuracy, epoch {_shown_best(run)}"), tag("p", note, class_="muted small"))
    return tag("div", tag("strong", percent(accuracy)), tag("div", *texts), class_="headline")


def _range(value: float, lower: float, upper: float) -> Html:
    """A value and its interval on a scale from 0 to 1; decoration, for the text beside it says the same."""
    band = tag("i", style=f"left:{100 * lower:.2f}%;width:{100 * (upper - lower):.2f}%")
    return tag("div", band, tag("b", style=f"left:{100 * value:.2f}%"), class_="range", aria_hidden="true")


def _facts(run: RunFiles) -> Html:
    """The numbers that one compares between runs, at a glance."""
    summary, record = run.summary, run.evaluation
    if record is None:  # the validation accuracy is the headline then
        facts = {"Validation loss": significant(summary["val/loss"])}
    else:
        facts = {
            "Macro F1": percent(record["macro_f1"]),
            "Loss": significant(record["loss"]),
            "Calibration error": percent(record["ece"]),
            "Validation accuracy": percent(summary["val/accuracy"]),
        }
    facts["Parameters"] = magnitude(summary["parameters"])
    facts["Training time"] = duration(summary["train_seconds"])
    return fact_list(facts)


def _training_facts(run: RunFiles) -> Html:
    summary = run.summary
    throughput = summary["images_per_second"]
    facts = {
        "Epochs": _epochs(run),
        "Best epoch": _shown_best(run),
        "Validation accuracy": percent(summary["val/accuracy"]),
        "Validation loss": significant(summary["val/loss"]),
        "Parameters": f"{summary['parameters']:,}",
        "Training time": duration(summary["train_seconds"]),
        "Throughput": "none" if throughput is None else f"{throughput:,.0f} images/s",
    }
    recorded = dict(_flattened(run.provenance))
    facts |= {name: recorded[key] for key, name in RECORDED_FACTS.items() if key in recorded}
    return names_table("Key facts of the training", facts.items())


def _epoch_table(run: RunFiles) -> Html:
    rows = []
    for entry in run.history:
        is_best = entry["epoch"] == run.summary["best_epoch"]
        rows.append(
            tag(
                "tr",
                tag("th", f"{entry['epoch'] + 1} (best)" if is_best else f"{entry['epoch'] + 1}", scope="row"),
                *(number_cell(written(entry[key])) for key, (_, written) in EPOCH_COLUMNS.items()),
                class_="best" if is_best else None,
            )
        )
    return table("Metrics by epoch", ["epoch", *(heading for heading, _ in EPOCH_COLUMNS.values())], rows, 1)


def _group_name(config: Mapping[str, Any], group: str) -> str:
    chosen = config.get(group)
    name = chosen.get("name") if isinstance(chosen, dict) else chosen
    return name if isinstance(name, str) else f"unnamed {group}"


def _shown_best(run: RunFiles) -> str:
    best_epoch = run.summary["best_epoch"]
    return "none" if best_epoch is None else str(best_epoch + 1)


def _epochs(run: RunFiles) -> str:
    trainer = run.config.get("trainer")
    planned = trainer.get("epochs") if isinstance(trainer, dict) else None
    return f"{len(run.history)} of {planned} epochs" if isinstance(planned, int) else f"{len(run.history)} epochs"


def _flattened(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Pairs of a dotted key and a text, one for each leaf."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, shlex.join(map(str, value))
        elif isinstance(value, bool):
            yield prefix + key, "yes" if value else "no"
        else:
            yield prefix + key, "none" if value is None else str(value)
