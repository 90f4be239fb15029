"""The sections that tell how good the model is: class by class, and on corrupted images."""

from landuse.config.overrides import typed
from landuse.evaluation.report.files import Evaluation, RunFiles
from landuse.page.markup import Html, join, tag
from landuse.page.parts import bar, figure, number_cell, section, table
from landuse.page.wording import duration, percent

MAX_CONFUSIONS = 10


def evaluation(run: RunFiles) -> Html:
    """Figures and tables of the evaluation, or how to make one."""
    record = run.evaluation
    if record is None:
        return section(
            "evaluation",
            "Evaluation",
            tag("p", "This run has not been evaluated on its test split yet. To do so:"),
            tag("pre", tag("code", f"python -m landuse.evaluate {typed('run', run.shown_folder)}")),
        )
    return section(
        "evaluation",
        f"Evaluation on the {record['split']} split",
        _note(run, record),
        _confusion(run, record),
        _confusions(record),
        tag("div", _reliability(run, record), _per_class(run, record), class_="pair"),
        _classes(record),
        _mistakes(run),
    )


def robustness(run: RunFiles) -> Html:
    """Figure and table of the accuracy on corrupted images; nothing where that was not measured of these weights."""
    record = run.robustness
    if record is None:
        return Html()
    views = ", averaged over the eight symmetries," if record["test_time_augmentation"] else ""
    text = (
        f"Accuracy on {record['num_images']:,} images of the {record['split']} split{views} after each corruption, by "
        f"its severity: {percent(record['clean'])} as they are, {percent(record['mean_accuracy'])} in the mean over "
        "corruptions and severities."
    )
    alt = f"Accuracy by severity of {len(record['accuracy'])} corruptions. The numbers are in the table that follows."
    rows = [
        tag("tr", tag("th", name, scope="row"), *(number_cell(percent(value)) for value in values))
        for name, values in [*record["accuracy"].items(), ("mean", record["mean"])]
    ]
    return section(
        "robustness",
        "Robustness",
        tag("p", text, class_="muted"),
        figure(run.figures.get("robustness"), alt, "The thick line is the mean over the corruptions."),
        table(None, ["corruption", *(f"severity {severity}" for severity in record["severities"])], rows, 1),
    )


def _confusion(run: RunFiles, record: Evaluation) -> Html:
    alt = (
        f"Confusion matrix of {len(record['classes'])} classes: {percent(record['accuracy'])} of the images are on the"
        " diagonal. The most frequent confusions are in the table that follows."
    )
    caption = "Rows: true class, columns: prediction. The colour is the share of the row, hits blue, mistakes orange."
    return figure(run.figures.get("confusion"), alt, caption, "wide chart")


def _reliability(run: RunFiles, record: Evaluation) -> Html:
    alt = f"Reliability diagram; the expected calibration error is {percent(record['ece'])}."
    caption = "Accuracy by confidence of the prediction. A bar below the line: more confident than right."
    return figure(run.figures.get("reliability"), alt, caption)


def _per_class(run: RunFiles, record: Evaluation) -> Html:
    by_f1 = sorted(record["classes"], key=lambda name: record["per_class"][name]["f1"])
    alt = (
        f"F1, precision and recall by class, from {by_f1[-1]} (best) to {by_f1[0]} (weakest)."
        " The numbers are in the table of the classes."
    )
    return figure(run.figures.get("per_class"), alt, "n: images of the class in the split.")


def _mistakes(run: RunFiles) -> Html:
    """The gallery under a heading of its own, for it comes after a long table."""
    alt = (
        "Gallery of the wrongly classified images in which the model was most confident, each under its true class,"
        " its prediction and the confidence."
    )
    caption = "True class → prediction, confidence. Wrong labels in the data are found here first."
    gallery = figure(run.figures.get("mistakes"), alt, caption, "photo")
    return join(tag("h3", "Most confident mistakes"), gallery) if gallery else gallery


def _note(run: RunFiles, record: Evaluation) -> Html:
    views = "with test-time augmentation" if record["test_time_augmentation"] else "without test-time augmentation"
    text = (
        f"{record['num_images']:,} images of {len(record['classes'])} classes, {views}, on {record['device']}"
        f" in {record['precision']}, {duration(record['seconds'])}."
    )
    trained_on = run.provenance.get("split_fingerprint")
    if trained_on is None or record["split_fingerprint"] in (None, trained_on):
        return tag("p", text, class_="muted")
    warning = (
        "The split evaluated here is not the split of the training: images of it may have been trained on."
        f" Evaluated: {record['split_fingerprint']}; trained: {trained_on}."
    )
    return join(tag("p", text, class_="muted"), tag("p", warning, class_="warning"))


def confusions(record: Evaluation) -> list[tuple[int, float, str, str]]:
    """(images, share of the true class, true class, what it was taken for), the most frequent first."""
    classes = record["classes"]
    cells = [
        (count, count / sum(counts), classes[row], classes[column])
        for row, counts in enumerate(record["confusion_matrix"])
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(cells, key=lambda cell: -cell[0])


def _confusions(record: Evaluation) -> Html:
    """The largest cells off the diagonal as a table."""
    cells = confusions(record)
    if not cells:
        return tag("p", "Every image was classified correctly.")
    rows = [
        tag(
            "tr",
            tag("th", true, scope="row"),
            tag("td", predicted, class_="name"),
            number_cell(str(count)),
            number_cell(percent(share, digits=0)),
        )
        for count, share, true, predicted in cells[:MAX_CONFUSIONS]
    ]
    columns = ["true class", "taken for", "images", "of the class"]
    return join(tag("h3", "Most frequent confusions"), table(None, columns, rows, 2))


def _classes(record: Evaluation) -> Html:
    """Scores of all classes, the weakest first: that is where the work is."""
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", tag("div", percent(scores["f1"]), bar(scores["f1"]), class_="score")),
            number_cell(percent(scores["precision"])),
            number_cell(percent(scores["recall"])),
            number_cell(f"{scores['support']:,}"),
        )
        for name, scores in sorted(record["per_class"].items(), key=lambda item: (item[1]["f1"], item[0]))
    ]
    columns = ["class", "F1", "precision", "recall", "images"]
    return join(tag("h3", "Classes"), table("Weakest F1 first.", columns, rows, 2))
