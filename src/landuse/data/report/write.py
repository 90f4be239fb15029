"""Writing the report of a pack: figures first, then the page that shows them."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landuse.data.pack import Pack, PackedSplit
from landuse.data.report import figures
from landuse.data.sources import class_of
from landuse.data.split import SPLITS
from landuse.page.markup import Html, tag
from landuse.page.parts import figure, names_table, number_cell, png, section, table
from landuse.page.write import page, write_page

MAX_ROWS = 200  # of a table; quality.json has them all
MOST_NAMED = 5


def write_report(pack: Pack) -> Path:
    """Write ``report.html`` and the PNG files; opens all splits, the test images too.

    Returns:
        The page.
    """
    folder = pack.report_folder
    found = json.loads((pack.folder / "quality.json").read_text(encoding="utf-8"))
    splits = {name: pack.split(name) for name in SPLITS}
    _draw(folder, pack, splits, found)
    body = tag(
        "main",
        _classes(folder, pack, splits),
        _unusable(found),
        _duplicates(folder, found),
        _leaks(pack, found),
        _sizes(folder, found),
        _sheets(folder, pack),
    )
    return write_page(folder / "report.html", page(f"{pack.name}: data report", _header(pack, found), body))


def _draw(folder: Path, pack: Pack, splits: dict[str, PackedSplit], found: dict[str, Any]) -> None:
    counts = {name: Counter(pack.classes[label] for label in split.labels) for name, split in splits.items()}
    figures.classes(counts, folder / "classes.png")
    figures.sizes(found["sizes"], folder / "sizes.png")
    train = splits["train"]
    for label in range(len(pack.classes)):
        rows = np.flatnonzero(train.labels == label)[: figures.SHEET_IMAGES]
        figures.sheet(train.images[rows], folder / f"class-{label:03d}.png")
    place = {path: (split, row) for split in splits.values() for row, path in enumerate(split.paths)}

    def image(path: str) -> NDArray[np.uint8]:
        split, row = place[path]
        return np.asarray(split.images[row])

    pairs = [pair for pair in found["duplicates"] if pair["first"] in place and pair["second"] in place]
    if pairs:  # given lists may leave out either
        figures.duplicates(
            [(image(pair["first"]), image(pair["second"]), _pair_text(pair)) for pair in pairs[: figures.MAX_PAIRS]],
            folder / "duplicates.png",
        )


def _pair_text(pair: dict[str, Any]) -> str:
    first, second = (pair[key].rpartition(".")[0] for key in ("first", "second"))
    if class_of(first) == class_of(second):
        first, second = (name.rpartition("/")[2] for name in (first, second))
    return f"{first[-20:]}, {second[-20:]}: " + ("equal" if pair["exact"] else f"{pair['correlation']:.3f}")


def _header(pack: Pack, found: dict[str, Any]) -> Html:
    facts = {
        "Images": f"{found['num_images']:,}, of which {pack.num_unusable:,} cannot be used",
        "Splits": ", ".join(f"{count:,} {name}" for name, count in pack.num_images.items()),
        "Classes": str(len(pack.classes)),
        "Packed size": f"{pack.image_size} x {pack.image_size} pixels",
        "Mean (R, G, B)": ", ".join(f"{value:.4f}" for value in pack.mean),
        "Standard deviation": ", ".join(f"{value:.4f}" for value in pack.std),
        "Data fingerprint": pack.data_fingerprint,
        "Split fingerprint": pack.split_fingerprint,
    }
    return tag(
        "header",
        tag("div", tag("h1", f"{pack.name}: the data"), class_="title"),
        tag("p", tag("code", str(pack.folder)), class_="muted"),
        tag("section", names_table("Facts", facts.items())),
    )


def _classes(folder: Path, pack: Pack, splits: dict[str, PackedSplit]) -> Html:
    counts = [np.bincount(split.labels, minlength=len(pack.classes)) for split in splits.values()]
    totals = np.sum(counts, axis=0)
    rows = [
        tag("tr", tag("th", name, scope="row"), *(number_cell(f"{count[i]:,}") for count in (*counts, totals)))
        for i, name in enumerate(pack.classes)
    ]
    alt = f"Images of {len(pack.classes)} classes by split; the numbers are in the table that follows."
    chart = figure(png(folder / "classes.png"), alt, "A class with few images is learnt worst.")
    return section("classes", "Classes", chart, table(None, ["class", *SPLITS, "all"], rows, 1))


def _unusable(found: dict[str, Any]) -> Html:
    unusable = _rows(found["unusable"], lambda entry: [entry["path"], entry["reason"]])
    left_out = table("Images that cannot be used.", ["image", "why"], unusable, 2)
    changed = [
        tag(
            "tr",
            tag("th", entry["what"], scope="row"),
            number_cell(f"{entry['images']:,}"),
            tag("td", ", ".join(entry["examples"])),
        )
        for entry in found["conversions"]
    ]
    conversions = table("Images that were converted.", ["what", "images", "such as"], changed, 3)
    return section(
        "quality",
        "Quality",
        left_out if unusable else tag("p", "Every image can be used."),
        conversions if changed else tag("p", "No image had to be converted."),
    )


def _duplicates(folder: Path, found: dict[str, Any]) -> Html:
    pairs = found["duplicates"]
    if not pairs:
        return section("duplicates", "Duplicates", tag("p", "No two images show the same, or none were looked for."))
    rows = _rows(
        pairs, lambda pair: [pair["first"], pair["second"], "equal" if pair["exact"] else f"{pair['correlation']:.3f}"]
    )
    at_odds = [pair for pair in pairs if class_of(pair["first"]) != class_of(pair["second"])]
    odd = [f"{pair['first']} and {pair['second']}" for pair in at_odds[:MOST_NAMED]]
    more = ", ..." if len(at_odds) > MOST_NAMED else ""
    labels = f" Of {len(at_odds):,} pairs one label is wrong, for they have two classes: {', '.join(odd)}{more}."
    note = (
        f"{len(pairs):,} pairs show the same, up to turning, mirroring, brightness and compression. Images that are "
        "paired directly or through others form a group. "
        + ("Given lists divide some: see the leaks." if found["leaks"] else "No group is divided between splits.")
        + (labels if at_odds else "")
    )
    caption = "Pairs with the correlation of their thumbnails in the best symmetry."
    photos = figure(png(folder / "duplicates.png"), "Pairs of images that show the same.", caption, "photo")
    return section("duplicates", "Duplicates", tag("p", note), photos, table(None, ["one", "other", "alike"], rows, 3))


def _leaks(pack: Pack, found: dict[str, Any]) -> Html:
    leaks = found["leaks"]
    if not leaks:
        return section("leaks", "Leaks", tag("p", "No image of val or test shows what an earlier split shows."))
    counts = ", ".join(f"{n:,} of {pack.num_images[name]:,} {name} images" for name, n in pack.num_leaks.items() if n)
    rows = _rows(leaks, lambda leak: [leak["image"], leak["split"], leak["twin"], leak["twin_split"]])
    note = tag("p", f"{counts} show what an image of an earlier split shows: their scores flatter.", class_="warning")
    return section("leaks", "Leaks", note, table(None, ["image", "in", "shows the same as", "in"], rows, 4))


def _sizes(folder: Path, found: dict[str, Any]) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", f"{size['width']} x {size['height']}", scope="row"),
            number_cell(f"{size['images']:,}"),
        )
        for size in found["sizes"][:MAX_ROWS]
    ]
    caption = "The area of a disc stands for the number of images of that size."
    chart = figure(png(folder / "sizes.png"), "Widths and heights of the files.", caption)
    return section("sizes", "Sizes", chart, table(None, ["pixels", "images"], rows, 1))


def _sheets(folder: Path, pack: Pack) -> Html:
    sheets = [
        figure(png(folder / f"class-{label:03d}.png"), f"Training images of {name}.", name, "photo")
        for label, name in enumerate(pack.classes)
    ]
    return section("sheets", "Images of each class", tag("p", "From the training split."), *sheets)


def _rows(entries: Sequence[dict[str, Any]], cells: Callable[[dict[str, Any]], list[str]]) -> list[Html]:
    rows = [tag("tr", *(tag("td", cell) for cell in cells(entry))) for entry in entries[:MAX_ROWS]]
    if len(entries) > MAX_ROWS:
        rows.append(tag("tr", tag("td", f"and {len(entries) - MAX_ROWS:,} more in quality.json")))
    return rows
