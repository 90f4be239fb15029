"""Scenes and the folders of their maps; what a folder of maps is of, so that none is overwritten by another.

<output>/map-job.json     input, model and settings; `merge` takes them from here
<output>/                 the map of a single scene, or
<output>/<scene>/         of several
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from landuse.addresses import shown
from landuse.config.schema import Config, MapConfig
from landuse.errors import UserError
from landuse.files import read_mapping, write_json
from landuse.inputs import list_images
from landuse.mapping.scene import SUFFIXES

JOB_FILE = "map-job.json"
LARGEST_JOB = 1_000_000  # bytes
FILES = ("classes.tif", "confidence.tif", "areas.csv", "map.json", "map.png", "map.html", "parts")
# How a map is drawn, or who computes it: the tiles and their answers are the same.
MAY_CHANGE = ("min_confidence", "polygons", "colours", "evaluation", "num_workers", "merge")


def scenes_of(asked: str | None, output: Path, stdin: Iterable[str]) -> list[tuple[str, Path]]:
    """The scenes that ``input=`` names, each with the folder of its map.

    Raises:
        UserError: there are none, or two would have the same folder.
    """
    if asked and "://" in asked:
        return [(asked, output)]
    place = output.resolve()
    listed = list_images(asked, stdin, SUFFIXES)
    is_single = len(listed) == 1 and Path(asked or "") == listed[0]
    paths = [path for path in listed if is_single or not path.resolve().is_relative_to(place)]  # an earlier map is none
    if not paths:
        raise UserError(f"input={asked}: holds no scenes but the maps in output={output}.")
    if is_single:
        return [(str(paths[0]), output)]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(root) for path in paths]
    stems = [name.with_suffix("") for name in names]
    folders = [output / (stem if stems.count(stem) == 1 else name) for name, stem in zip(names, stems, strict=True)]
    return [(str(path), folder) for path, folder in zip(paths, folders, strict=True)]


def claim(output: Path, config: Config, model: Path, folders: Sequence[Path]) -> None:
    """Say in the output folder what it is of, or find that it is of the same.

    Args:
        model: the exported folder.
        folders: of the scenes' maps.

    Raises:
        UserError: it holds maps of something else, or files that would be overwritten.
        OSError: it cannot be made.
    """
    path = output / JOB_FILE
    asked = str(config.input)
    asked = asked if asked == "-" or "://" in asked else os.path.abspath(asked)  # noqa: PTH100 (may be a pattern)
    now = json.loads(json.dumps({
        "input": asked, "run": str(model), "variant": config.variant, "map": dataclasses.asdict(config.map),
    }))  # fmt: skip
    if path.exists():
        then = _read(path)
        if different := _difference(then, now):
            raise UserError(f"{output} holds a map of another {different}: choose another output=PATH, or remove it.")
    elif found := next((where / name for where in folders for name in FILES if (where / name).exists()), None):
        raise UserError(f"{found} is there and no map of this program's: choose another output=PATH, or move it.")
    if not path.exists() or _read(path) != now:
        write_json(path, now)


def recorded(output: Path, config: Config, overrides: Sequence[str]) -> None:
    """Take input, model and settings from the output folder, but for the keys that the command line names.

    Raises:
        UserError: it holds no parts.
    """
    path = output / JOB_FILE
    if not path.is_file():
        raise UserError(
            f"{path} is not there: run the shards first, with the same output=PATH, or give input= and run=."
        )
    then = _read(path)
    named = {override.lstrip("+~").partition("=")[0] for override in overrides}
    config.input = then["input"]
    if not {"run", "variant"} & named:
        config.run, config.variant = then["run"], then["variant"]
    for field in dataclasses.fields(MapConfig):
        if f"map.{field.name}" not in named and field.name in then["map"] and field.name != "merge":
            setattr(config.map, field.name, then["map"][field.name])


def _read(path: Path) -> dict[str, Any]:
    content = read_mapping(path, LARGEST_JOB)
    if not isinstance(content.get("map"), dict) or not {"input", "run", "variant"} <= content.keys():
        raise UserError(f"{path} is damaged: remove the folder, or choose another output=PATH.")
    return content


def _difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """The first thing that tells the two apart, both values shown; empty: they are the same.

    Whether the model is the same say the parts, which know its content and not only where it lies.
    """
    keys = [key for key in now["map"] if key not in MAY_CHANGE]
    pairs = {"input": (then["input"], now["input"])}
    pairs |= {f"map.{key}": (then["map"].get(key), now["map"][key]) for key in keys}
    for name, (before, after) in pairs.items():
        if before != after:
            return f"{name} ({shown(str(before))[:200]} then, {shown(str(after))[:200]} now)"
    return ""
