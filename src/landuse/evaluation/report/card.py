"""The model card, model/README.md: what was measured, in words, from the files of the run alone.

After Mitchell et al., "Model cards for model reporting", FAT* 2019; the head is what model hubs read.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from landuse import addresses
from landuse.config.ground import read_ground
from landuse.evaluation.report.evaluation import confusions
from landuse.evaluation.report.files import Evaluation, RunFiles
from landuse.files import read_mapping, replacing
from landuse.page.wording import NBSP, duration, magnitude, percent, significant

FILE = "README.md"
LARGEST_DESCRIPTION = 10_000_000  # bytes of model.json
NUM_WEAK = 5  # classes and confusions that are named
WEAK_BINS = 10  # images of a confidence, below which its accuracy says little
SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>()#+!|~&"})


def write_card(run: RunFiles) -> Path:
    """Write ``model/README.md``, which replaces an older one at once; returns its path."""
    path = run.folder / "model" / FILE
    with replacing(path) as temporary:
        temporary.write_text(card(run), encoding="utf-8", newline="\n", errors="replace")
    return path


def card(run: RunFiles) -> str:
    """The card as Markdown."""
    parts = [_head(run), *_model(run), *_data(run), *_result(run), *_limits(run), *_made(run), *_use()]
    return "\n".join(parts).replace(NBSP, " ") + "\n"


def _head(run: RunFiles) -> str:
    tags = ["land-use", "remote-sensing", _group(run, "data"), _group(run, "model")]
    content: dict[str, Any] = {"library_name": "landuse", "pipeline_tag": "image-classification", "tags": tags}
    if run.evaluation is not None:
        content["metrics"] = ["accuracy", "f1"]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]  # JSON is YAML
    return "\n".join(["---", *lines, "---", ""])


def _model(run: RunFiles) -> Iterator[str]:
    name, data = _text(_group(run, "model")), _text(_group(run, "data"))
    size = _at(run.config, "data", "image_size")
    yield f"# {name}, trained on {data}\n"
    yield (
        f"Tells the land use that a square aerial or satellite image shows. {magnitude(run.summary['parameters'])} "
        f"parameters, RGB images of {_text(size)} x {_text(size)} px."
    )
    if run.evaluation is not None:
        yield f"\nClasses: {', '.join(map(_text, run.evaluation['classes']))}."


def _data(run: RunFiles) -> Iterator[str]:
    config = run.config.get("data")
    config = config if isinstance(config, dict) else {}
    counts = run.summary.get("num_images")
    unknown = "none needed, drawn by landuse" if config.get("source") == "synthetic" else "not stated (data.licence)"
    yield "\n## Data\n"
    yield f"* {_text(_group(run, 'data'))}, licence: {_text(config.get('licence') or unknown)}"
    if isinstance(counts, dict):
        yield "* images: " + ", ".join(f"{_text(count)} {_text(split)}" for split, count in counts.items())
    yield f"* {_ground(run)}"
    yield f"* fingerprint of the images {_fingerprint(run, 'data')}, of the split {_fingerprint(run, 'split')}"
    if _at(config, "split", "files") is not None:
        yield "* split as lists say"
    elif _at(config, "quality", "duplicates") == "near":
        yield "* copies and near-copies of an image lie in one split"


def _ground(run: RunFiles) -> str:
    """How large what the images show is, as the model itself has it."""
    extra = read_mapping(run.folder / "model" / "model.json", LARGEST_DESCRIPTION).get("extra")
    try:
        ground = read_ground(extra if isinstance(extra, dict) else {})
    except ValueError:  # loading that model is refused, with the reason
        return "ground sampling distance: not legible"
    pixel = "not stated (data.gsd)" if ground.gsd is None else f"{ground.gsd:g} m a pixel"
    if ground.tile_size is None:
        return f"ground sampling distance: {pixel}"
    side = "" if ground.gsd is None else f" or {significant(ground.gsd * ground.tile_size)} m"
    return f"ground sampling distance: {pixel}; images of {ground.tile_size} px{side} a side"


def _result(run: RunFiles) -> Iterator[str]:
    yield "\n## Result\n"
    record = run.evaluation
    if record is None:
        yield (
            f"Validation accuracy {percent(run.summary['val/accuracy'])}; the epoch was chosen on this split, so the "
            "number is somewhat optimistic. The test split has not been opened: python -m landuse.evaluate."
        )
        return
    low, high = record["accuracy_ci95"]
    views = ", averaged over the eight symmetries of the image" if record["test_time_augmentation"] else ""
    yield f"On {record['num_images']:,} images of the {_text(record['split'])} split{views}:\n"
    yield "| | |\n|---|---|"
    yield f"| accuracy | {percent(record['accuracy'], 2)} (95 % interval {percent(low, 2)} to {percent(high, 2)}) |"
    yield f"| macro F1 | {percent(record['macro_f1'], 2)} |"
    yield f"| log loss | {significant(record['loss'])} nats |"
    yield f"| calibration error ({len(record['reliability'])} bins) | {percent(record['ece'], 2)} |"
    yield f"| validation accuracy | {percent(run.summary['val/accuracy'], 2)} |"
    yield f"\nThe interval is Wilson's, over the images; seed {_text(run.provenance.get('seed'))}."
    yield "\n### Where it fails\n"
    yield from _weak_classes(record)
    yield from _confusions(record)
    yield "\n### What its confidence is worth\n"
    yield from _calibration(record)


def _weak_classes(record: Evaluation) -> Iterator[str]:
    yield "| weakest classes | F1 | precision | recall | images |\n|---|---|---|---|---|"
    scores = sorted(record["per_class"].items(), key=lambda item: (item[1]["f1"], item[0]))
    for name, one in scores[:NUM_WEAK]:
        numbers = " | ".join(percent(value) for value in (one["f1"], one["precision"], one["recall"]))
        yield f"| {_text(name)} | {numbers} | {one['support']:,} |"


def _confusions(record: Evaluation) -> Iterator[str]:
    yield ""
    for count, _, true, taken in confusions(record)[:NUM_WEAK]:
        yield f"* {_text(true)} taken for {_text(taken)}: {count}"


def _calibration(record: Evaluation) -> Iterator[str]:
    """Where the model is surest, and how often it is right there."""
    bins = [b for b in record["reliability"] if b["count"] >= WEAK_BINS and b["accuracy"] is not None]
    if not bins:
        yield "Too few images to say."
        return
    yield "| confidence | images | right |\n|---|---|---|"
    for b in reversed(bins):
        yield f"| {percent(b['lower'], 0)} to {percent(b['upper'], 0)} | {b['count']:,} | {percent(b['accuracy'])} |"


def _limits(run: RunFiles) -> Iterator[str]:
    size = _at(run.config, "data", "image_size")
    yield "\n## Limits\n"
    yield (
        "* It knows its classes and no other: whatever an image shows, one of them is named.\n"
        f"* It was measured on images of one source, shown at {_text(size)} px. Another sensor, season, country or "
        "ground sampling distance was not measured."
    )


def _made(run: RunFiles) -> Iterator[str]:
    provenance, summary = run.provenance, run.summary
    commit = provenance.get("git_commit")
    dirty = " with changes that were not committed" if provenance.get("git_dirty") else ""
    rate = summary["images_per_second"]
    speed = "" if rate is None else f", {rate:,.0f} images/s"
    device = _text(_at(provenance, "hardware", "device_name") or _at(provenance, "hardware", "device"))
    yield "\n## How it was made\n"
    yield (
        f"* {len(run.history)} epochs in {duration(summary['train_seconds'])}{speed} on {device}, "
        f"{_text(_at(provenance, 'hardware', 'precision'))}"
    )
    yield f"* commit {_text(str(commit)[:12] if commit else None)}{dirty}, torch {_text(provenance.get('torch'))}"
    yield f"\n```\n{_code(_without_folders(str(provenance.get('command_line'))))}\n```"


def _without_folders(command: str) -> str:
    """A command line that names no folder and no server of its author's: of paths and addresses the end alone."""
    try:
        arguments = shlex.split(command)
    except ValueError:
        return ""
    shown = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        last = re.split(r"[/\\]", addresses.shown(value).strip("'\"[]"))[-1]
        shown.append(f"{key}=.../{last}" if equals and re.search(r"[/\\]", value) else argument)
    return shlex.join(shown)


def _use() -> Iterator[str]:
    yield "\n## Use\n"
    yield (
        "```python\nfrom pathlib import Path\n\nfrom landuse.models.export import load_model\n\n"
        'loaded = load_model(Path("model"))  # opens without executing anything that is in the folder\n'
        "# loaded.model maps images (N, 3, size, size), scaled to 0..1, less loaded.mean, divided by loaded.std, to\n"
        "# logits in the order of loaded.classes\n```"
    )


def _fingerprint(run: RunFiles, what: str) -> str:
    value = run.provenance.get(f"{what}_fingerprint")
    return f"`{_code(str(value)[:12])}`" if value else "unknown"


def _group(run: RunFiles, name: str) -> str:
    return str(_at(run.config, name, "name") or name)


def _at(tree: Mapping[str, Any], *keys: str) -> Any:
    node: Any = tree
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _text(value: object) -> str:
    """A stranger's text as Markdown that says it and nothing else."""
    return " ".join(str(value).split()).translate(SPECIAL)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
