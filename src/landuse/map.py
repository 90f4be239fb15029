"""python -m landuse.map: a land-use map of each scene that ``input=`` names, by an exported model."""

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landuse.cli import Invocation, leave, run_command
from landuse.config.schema import Config
from landuse.config.validate_map import parse_shard, validate_map
from landuse.errors import FailureError, UserError
from landuse.exports import find_exported, named_network, require_extra
from landuse.tracking import logs

if TYPE_CHECKING:
    from landuse.mapping.classify import Classifier
    from landuse.mapping.parts import Shard

log = logging.getLogger(__name__)


def map(config: Config, call: Invocation) -> None:
    """Classify each scene tile by tile and write its map into ``output=``, of several scenes into a folder for each.

    What was classified is kept there: the same command goes on with a map that was interrupted, and draws one anew
    whose tiles are all there. With ``shard=i/n`` it classifies the i-th of n parts alone; ``merge`` joins them.

    Raises:
        UserError: no such run or scene, a scene that cannot be read or mapped as asked, or an output folder that holds
            something else.
        FailureError: some of several scenes could not be mapped.
    """
    validate_map(config)
    logs.to_stderr(config.log)
    require_extra("geo", "rasterio", "pyogrio", "shapely", "onnxruntime")

    from landuse.mapping.classifiers import Described, open_classifier
    from landuse.mapping.colours import class_colours
    from landuse.mapping.folders import claim, recorded, scenes_of
    from landuse.mapping.parts import Shard
    from landuse.mapping.table import find_confusion

    output = Path(config.output or "")
    if config.map.merge and not config.input:
        scenes = recorded(output, config, call.overrides)
        validate_map(config)
    else:
        scenes = scenes_of(config.input, output, (os.fsdecode(line) for line in sys.stdin.buffer))
    folder = find_exported(config)
    described = Described(folder)  # what has to be right is found out before anything takes long
    class_colours(described.model.classes, config.map.colours)
    find_confusion(config.map.evaluation, described.model, config.map.min_confidence)
    claim(output, config, folder, scenes)
    is_merge = config.map.merge
    classifier = (
        described
        if is_merge
        else open_classifier(folder, config.trainer.device, config.map.batch_size, named_network(config))
    )
    shard = Shard(*parse_shard(config.shard))
    problems = []
    for number, (where, path) in enumerate(scenes.items(), 1):
        # Small scenes have tiles for some shards alone, which are others from scene to scene.
        own = Shard((shard.number - 2 + number) % shard.of + 1, shard.of)
        if len(scenes) > 1:
            log.info("scene %d of %d", number, len(scenes))
        try:
            _map_scene(path, where, classifier, config, own)
        except UserError as error:
            if len(scenes) == 1:
                raise
            log.error("%s", error)
            problems.append(path)
    if problems:
        raise FailureError(f"{len(problems)} of {len(scenes)} scenes could not be mapped, see above.")


def _map_scene(path: str, folder: Path, classifier: "Classifier", config: Config, shard: "Shard") -> None:
    from landuse.mapping.job import prepare, run_shard
    from landuse.mapping.outputs import write_map

    started = time.perf_counter()
    work = prepare(path, classifier, config.map, folder)
    num_new = 0 if config.map.merge else run_shard(work, shard)
    if shard.of > 1:
        whole = f"python -m landuse.map merge output={config.output}"
        log.info("part        %d of %d is there; when all are: %s", shard.number, shard.of, whole)
        return
    facts = write_map(work)
    seconds = time.perf_counter() - started
    megapixels = work.scene.width * work.scene.height / 1e6
    _show(facts["areas"])
    if num_new == work.scale.grid.num_windows:  # all of it now
        log.info("mapped      %.1f megapixels in %.1f s, %.2f a second", megapixels, seconds, megapixels / seconds)
    log.info("result      %s", folder / "classes.tif")
    log.info("page        %s", folder / "map.html")


def _show(areas: Sequence[dict[str, Any]]) -> None:
    """The classes that occur, largest first."""
    unit = "ha" if areas[0]["counted_ha"] is not None else "share"
    is_corrected = areas[0]["corrected_share"] is not None
    head = "  corrected (95 % interval)" if is_corrected else ""
    log.info("%-24s %8s %12s%s", "class", "share", f"counted, {unit}" if unit == "ha" else "", head)
    for row in sorted(areas, key=lambda row: -row["pixels"]):
        if row["pixels"]:
            counted = f"{row['counted_ha']:,.2f}" if unit == "ha" else ""
            corrected = ""
            if row["corrected_share"] is not None:
                best, low, high = (_amount(row[f"{key}_{unit}"], unit) for key in ("corrected", "low", "high"))
                corrected = f"  {best} ({low} to {high})"
            log.info("%-24s %8s %12s%s", row["class"][:24], _percent(row["counted_share"]), counted, corrected)


def _amount(value: float, unit: str) -> str:
    return f"{value:,.2f}" if unit == "ha" else _percent(value)


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def main() -> None:
    """Entry point of landuse-map."""
    run_command("map", map)


if __name__ == "__main__":
    main()
    leave()
