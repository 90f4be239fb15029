"""Scenes and the folders of their maps; what a folder of maps is of, so that none is overwritten by another.

<output>/map-job.json     input, model and settings; `merge` takes them from here
<output>/                 the map of a single scene, or
<output>/<scene>/         of several
"""

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from landuse.addresses import named
from landuse.config import compose
from landuse.config.schema import Config, MapConfig
from landuse.errors import UserError
from landuse.files import read_mapping, write_json
from landuse.inputs import list_images
from landuse.mapping.scene import SUFFIXES

JOB_FILE = "map-job.json"
LARGEST_JOB = 1_000_000  # bytes
PARTS = "parts"  # the folder of what was answered, in that of a map
FILES = ("classes.tif", "confidence.tif", "areas.csv", "map.json", "map.png", "map.html", PARTS)
# How a map is drawn, who computes it, and what tiles follow from, which the parts know.
MAY_CHANGE = ("min_confidence", "polygons", "colours", "evaluation", "num_workers", "merge", "gsd", "tile_m")


def scenes_of(asked: str | None, output: Path, stdin: Iterable[str]) -> dict[Path, str]:
    """The scenes that ``input=`` names, by the folders of their maps.

    Maps of earlier commands that lie among them are none.

    Raises:
        UserError: there are none, or two would have the same folder.
    """
    if asked and "://" in asked:
        return {output: asked}
    given = Path(os.path.abspath(asked or ""))  # noqa: PTH100 (a link keeps its name)
    listed = dict.fromkeys(Path(os.path.abspath(path)) for path in list_images(asked, stdin, SUFFIXES))  # noqa: PTH100
    if list(listed) == [given]:
        return {output: str(given)}
    is_map = functools.cache(lambda folder: (folder / JOB_FILE).exists())
    paths = [path for path in listed if not any(map(is_map, path.parents))]
    if not paths:
        raise UserError(f"input={asked}: holds no scenes but maps that were made earlier.")
    root = given if given.is_dir() else Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(root) for path in paths]
    stems = [name.with_suffix("") for name in names]
    folders = [output / (stem if stems.count(stem) == 1 else name) for name, stem in zip(names, stems, strict=True)]
    for folder in folders:
        if folders.count(folder) > 1 or any(part == PARTS for part in folder.relative_to(output).parts):
            raise UserError(f"The map of a scene would go into {folder}, which another one needs: rename that scene.")
    return dict(zip(folders, map(str, paths), strict=True))


def claim(output: Path, config: Config, model: Path, scenes: Mapping[Path, str]) -> None:
    """Say in the output folder what it is of, or find that it is of the same.

    Args:
        model: the exported folder.
        scenes: by the folders of their maps.

    Raises:
        UserError: it holds maps of something else, or files that would be overwritten.
        OSError: it cannot be made.
    """
    from filelock import FileLock

    path = output / JOB_FILE
    now = json.loads(json.dumps({
        "input": _absolute(str(config.input)), "run": str(model), "variant": config.variant,
        "map": dataclasses.asdict(config.map),
        "scenes": {str(folder.relative_to(output)): named(scene) for folder, scene in scenes.items()},
    }))  # fmt: skip
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={output} cannot be made ({error.strerror}): name another folder.") from error
    with FileLock(output / f".{JOB_FILE}.lock"):  # several shards may begin at once
        if path.exists():
            then = _read(path)
            has_parts = any((output / folder / PARTS).exists() for folder in then["scenes"])
            if has_parts and (different := _difference(then, now)):
                raise UserError(
                    f"{output} holds a map of another {different}: choose another output=PATH, or remove it."
                )
        elif found := next((where / name for where in scenes for name in FILES if (where / name).exists()), None):
            raise UserError(f"{found} is there and no map of this program's: choose another output=PATH, or move it.")
        if not path.exists() or then != now:
            write_json(path, now)


def recorded(output: Path, config: Config, overrides: Sequence[str]) -> dict[Path, str]:
    """Take model and settings from the output folder, but for the keys that the command line names.

    Returns:
        The scenes, as :func:`scenes_of`.

    Raises:
        UserError: it holds no parts, or what it says of them is damaged.
    """
    path = output / JOB_FILE
    if not path.is_file():
        raise UserError(f"{path} is not there: run the shards first, with the same output=PATH.")
    then = _read(path)
    named = {override.lstrip("+~").partition("=")[0] for override in overrides}
    config.input = then["input"]
    if not {"run", "variant"} & named:
        config.run, config.variant = then["run"], then["variant"]
    try:
        before = compose.from_tree({"model": {"kind": "cnn"}, "map": then["map"]}).map
    except UserError as error:
        raise _damaged(path) from error
    for field in dataclasses.fields(MapConfig):
        if f"map.{field.name}" not in named and field.name != "merge":
            setattr(config.map, field.name, getattr(before, field.name))
    return {output / folder: scene for folder, scene in then["scenes"].items()}


def _absolute(scene: str) -> str:
    """A path, or a pattern of such, wherever one is; an address without its secrets, or ``-``."""
    if scene == "-" or "://" in scene:
        return named(scene)
    return os.path.abspath(scene)  # noqa: PTH100 (Path takes no pattern)


def _read(path: Path) -> dict[str, Any]:
    content = read_mapping(path, LARGEST_JOB)
    scenes = content.get("scenes")
    are_texts = all(isinstance(content.get(key), str) for key in ("input", "run", "variant"))
    if not isinstance(content.get("map"), dict) or not isinstance(scenes, dict) or not are_texts:
        raise _damaged(path)
    if not all(isinstance(scene, str) and ".." not in Path(folder).parts for folder, scene in scenes.items()):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged: remove the folder, or choose another output=PATH.")


def _difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """The first thing that tells the two apart, both values shown; empty: they are the same.

    Whether the model is the same say the parts, which know its content and not only where it lies.
    """
    keys = [key for key in now["map"] if key not in MAY_CHANGE]
    pairs = {"input": (then["input"], now["input"])}
    pairs |= {f"map.{key}": (then["map"].get(key), now["map"][key]) for key in keys}
    for name, (before, after) in pairs.items():
        if before != after:
            return f"{name} ({_typed(before)} then, {_typed(after)} now)"
    return ""


def _typed(value: object) -> str:
    """Short, and null as on the command line."""
    return "null" if value is None else named(str(value))[:200]
