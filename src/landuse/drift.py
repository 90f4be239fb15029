"""python -m landuse.drift: whether the images that ``input=`` names are like those that a model was validated on."""

import logging
import os
import random
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse.cli import Invocation, leave, run_command
from landuse.config.schema import Config
from landuse.config.validate_service import validate_drift
from landuse.errors import DriftError, UserError
from landuse.exports import find_exported
from landuse.files import write_json
from landuse.monitoring import REFERENCE_FILE
from landuse.tracking import logs

if TYPE_CHECKING:
    from landuse.monitoring.reference import Reference
    from landuse.monitoring.window import Window
    from landuse.serving.watched import WatchedEngine

log = logging.getLogger(__name__)

MOST_IMAGES = 2000  # that are compared, a seeded choice of more: in very many, differences of no consequence are found
BATCH_SIZE = 32


def drift(config: Config, call: Invocation) -> dict[str, Any]:
    """Compare the images of ``input=``, all as one window, with the reference of the exported model of ``run=``.

    Returns:
        The content of ``<outputs>/drift/<run_name>/drift.json``.

    Raises:
        UserError: no such run or images, or too few images that can be used.
        DriftError: they are not like the reference.
    """
    validate_drift(config)
    logs.to_stderr(config.log)

    from landuse.inputs import list_images
    from landuse.monitoring.reference import load
    from landuse.monitoring.window import Window
    from landuse.serving.watched import WatchedEngine

    listed = list_images(config.input, map(os.fsdecode, sys.stdin.buffer))
    paths = [listed[i] for i in sorted(random.Random(0).sample(range(len(listed)), min(MOST_IMAGES, len(listed))))]
    folder = find_exported(config)
    engine = WatchedEngine(folder, max_batch=min(BATCH_SIZE, len(paths)))
    reference = load(folder / REFERENCE_FILE, len(engine.model.classes), engine.num_features)
    window = engine.window = Window(reference, len(paths), config.drift.min_images, config.drift.alpha)
    unusable = _answer(engine, paths, config.data.quality.value_range)
    result = window.result()
    if result["state"] == "too_few":
        raise UserError(
            f"input={config.input} has {result['num_images']} image(s) that can be used, and fewer than "
            f"drift.min_images={config.drift.min_images} tell nothing: give more, or lower that."
        )
    content = result | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": config.input,
        "num_listed": len(listed),
        "unusable": unusable,
        "model": {"folder": str(folder), "variant": engine.model.variant, "version": engine.model.version},
        "reference": {"split": reference.split, "num_images": len(reference.rows.confidence)},
    }
    _write(Path(config.outputs) / "drift" / config.run_name, content, reference, window, engine.model.classes)
    return content


def _answer(engine: "WatchedEngine", paths: Sequence[Path], value_range: Sequence[float] | None) -> dict[str, str]:
    """Let the model answer for all files; why some could not be used, by their path."""
    from landuse.data.workers import num_workers
    from landuse.serving.bulk import answer_files

    unusable: dict[str, str] = {}
    with closing(answer_files(engine, paths, min(num_workers(), len(paths)), BATCH_SIZE, value_range)) as batches:
        for batch in batches:
            found = zip(batch.paths, batch.problems, strict=True)
            unusable |= {str(path): problem for path, problem in found if problem is not None}
    for path, problem in unusable.items():
        log.warning("%s %s", path, problem)
    return unusable


def _write(
    folder: Path, content: dict[str, Any], reference: "Reference", window: "Window", classes: Sequence[str]
) -> None:
    from landuse.monitoring.report import verdict, write_report

    facts = {
        "Images": content["input"],
        "Not usable": f"{len(content['unusable']):,}",
        "Model": f"{content['model']['folder']} ({content['model']['version']})",
        "Compared with": f"{content['reference']['num_images']:,} images of the split {content['reference']['split']}",
    }
    write_json(folder / "drift.json", content)
    page = write_report(folder / "drift.html", content, reference, window.rows(), classes, facts)
    _show(content["tests"])
    log.info("result      %s", folder / "drift.json")
    log.info("report      %s", page)
    if content["state"] == "drift":
        raise DriftError(verdict(content))
    log.info("no drift    %s", verdict(content))


def _show(tests: Sequence[dict[str, Any]]) -> None:
    log.info("%-18s %12s %12s %10s %9s", "test", "before", "now", "statistic", "p-value")
    for test in tests:
        medians = ("" if test[key] is None else f"{test[key]:.4g}" for key in ("before", "now"))
        p_value = f"{test['adjusted_p_value']:.2g}"
        mark = "  drift" if test["drifted"] else ""
        log.info("%-18s %12s %12s %10.3g %9s%s", test["name"], *medians, test["statistic"], p_value, mark)


def main() -> None:
    """Entry point of landuse-drift."""
    run_command("drift", drift)


if __name__ == "__main__":
    main()
    leave()
