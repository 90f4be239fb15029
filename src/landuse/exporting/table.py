"""The table that compares the variants of a model, as JSON, as Markdown and for the terminal."""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from landuse.evaluation.metrics import Summary
from landuse.exporting.speed import BATCH, Speed
from landuse.files import replacing, write_json

FILES = ("export.json", "export.md")
HEADER = (
    "variant", "MB", "MB zipped", "parameters", "val accuracy", "test accuracy (95 % interval)", "calibration error",
    "ms, one image (10 to 90 %)", f"images/s, batches of {BATCH}", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One variant; None where something was not measured.

    Attributes:
        num_bytes: of its file of weights, or of its graph.
        num_zipped: of the same after DEFLATE, as a download has it; what zeros are worth.
        num_parameters: that are not zero.
        test: on the same images in all rows.
    """

    name: str
    num_bytes: int | None
    num_zipped: int | None
    num_parameters: int
    val_accuracy: float | None
    test: Summary | None = None
    speed: Speed | None = None
    note: str = ""


def sizes(file: Path) -> tuple[int, int]:
    """Bytes of a file, as it is and after DEFLATE."""
    content = file.read_bytes()
    return len(content), len(zlib.compress(content))


def remove(folder: Path) -> None:
    """Remove the table of an earlier export, whose variants are about to be replaced."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def write(folder: Path, rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """Write ``export.json`` and ``export.md``.

    Args:
        facts: of the run, the data and the machine.

    Returns:
        The table as text.
    """
    as_json, as_markdown = FILES
    write_json(folder / as_json, {**facts, "variants": [_plain(row) for row in rows]})
    text = _markdown(rows)
    with replacing(folder / as_markdown) as temporary:
        temporary.write_text(
            f"# Variants of {facts['run']}\n\n{text}\n\n{_explained(facts)}\n", encoding="utf-8", newline="\n"
        )
    return text


def _plain(row: Row) -> dict[str, Any]:
    content = asdict(row)
    if row.test is not None:
        keys = ("num_images", "accuracy", "accuracy_ci95", "macro_f1", "loss", "ece")
        content["test"] = {key: row.test[key] for key in keys}  # type: ignore[literal-required]
    return content


def _markdown(rows: Sequence[Row]) -> str:
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    test = ece = latency = rate = ""
    if row.test is not None:
        low, high = row.test["accuracy_ci95"]
        test, ece = f"{row.test['accuracy']:.4f} ({low:.4f} to {high:.4f})", f"{row.test['ece']:.4f}"
    if row.speed is not None:
        low, high = row.speed.latency_spread_ms
        latency = f"{row.speed.latency_ms:.2f} ({low:.2f} to {high:.2f})"
        rate = f"{row.speed.images_per_second:,.0f}"
    accuracy = "" if row.val_accuracy is None else f"{row.val_accuracy:.4f}"
    return (
        row.name, _megabytes(row.num_bytes), _megabytes(row.num_zipped), f"{row.num_parameters:,}", accuracy, test, ece,
        latency, rate, row.note.replace("|", "/"),
    )  # fmt: skip


def _megabytes(num_bytes: int | None) -> str:
    return "" if num_bytes is None else f"{num_bytes / 1e6:.2f}"


def _explained(facts: dict[str, Any]) -> str:
    return (
        f"All test accuracies are of the same {facts['num_test_images']:,} images; none of them decided which variants "
        f"are here, which the validation split did alone. Speed: {facts['machine']}, {facts['num_threads']} thread(s), "
        "variants in turn, medians."
    )
