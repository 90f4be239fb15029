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
from landuse.exports import find_exported, require_extra
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

    from landuse.mapping.classifiers import open_classifier
    from landuse.mapping.folders import claim, recorded, scenes_of
    from landuse.mapping.parts import Shard

    output = Path(config.output or "")
    if config.map.merge and not config.input:
        recorded(output, config, call.overrides)
    scenes = scenes_of(config.input, output, (os.fsdecode(line) for line in sys.stdin.buffer))
    folder = find_exported(config)
    classifier = open_classifier(folder, config.trainer.device, config.map.batch_size)
    claim(output, config, folder, [where for _, where in scenes])
    shard = Shard(*parse_shard(config.shard))
    problems = []
    for number, (path, where) in enumerate(scenes, 1):
        if len(scenes) > 1:
            log.info("scene %d of %d", number, len(scenes))
        try:
            _map_scene(path, where, classifier, config, shard)
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
        log.info(
            "part        %d of %d is there; when all are: python -m landuse.map merge output=%s",
            shard.number,
            shard.of,
            config.output,
        )
        return
    facts = write_map(work)
    seconds = time.perf_counter() - started
    megapixels = work.scene.width * work.scene.height / 1e6
    _show(facts["areas"])
    if num_new:
        log.info("mapped      %.1f megapixels in %.1f s, %.2f a second", megapixels, seconds, megapixels / seconds)
    log.info("result      %s", folder / "classes.tif")
    log.info("page        %s", folder / "map.html")


def _show(areas: Sequence[dict[str, Any]]) -> None:
    """The classes that occur, largest first."""
    for row in sorted(areas, key=lambda row: -row["pixels"]):
        if row["pixels"]:
            hectares = "" if row["counted_ha"] is None else f"  {row['counted_ha']:12,.2f} ha"
            corrected = ""
            if row["corrected_share"] is not None:
                low, high = row["low_share"], row["high_share"]
                corrected = f"  corrected {_percent(row['corrected_share'])} ({_percent(low)} to {_percent(high)})"
            log.info("%-24s %8s%s%s", row["class"][:24], _percent(row["counted_share"]), hectares, corrected)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    """Entry point of landuse-map."""
    run_command("map", map)


if __name__ == "__main__":
    main()
    leave()
