"""Run folders: made, found, pointed at.

outputs/train/<experiment>/<time>/
    config.yaml metrics.jsonl summary.json provenance.json train.log report.html
    checkpoints/ model/ figures/
"""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import yaml

from landuse.config.schema import Config
from landuse.errors import UserError
from landuse.files import replacing

log = logging.getLogger(__name__)

LATEST = "latest"


def require_free(folder: Path, config: Config) -> None:
    """Make sure that a training may write into this folder.

    Raises:
        UserError: it already holds a run and ``trainer.resume`` is not ``auto``; nothing earlier is overwritten.
    """
    if (folder / "metrics.jsonl").exists() and config.trainer.resume != "auto":
        raise UserError(
            f"{folder} already holds a run. Continue it with trainer.resume=auto, or choose another folder with "
            "run_name=NAME or hydra.run.dir=PATH."
        )


def create(folder: Path, config: Config) -> Path:
    """Make the folder of a training run and write its config.yaml."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.yaml", config)
    return folder


def write_config(path: Path, config: Config) -> None:
    """The resolved configuration as YAML, keys in the order of the schema."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(to_tree(config), sort_keys=False, allow_unicode=True), encoding="utf-8")


def to_tree(config: Config) -> dict[str, Any]:
    """Plain nested dictionaries and lists."""
    return dataclasses.asdict(config)


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.yaml as plain nested dictionaries.

    Raises:
        UserError: there is none, or it is no mapping.
    """
    path = folder / "config.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): run={folder} must name a folder that training wrote."
        ) from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} is no configuration: run={folder} must name a folder that training wrote.")
    return tree


def point_latest(outputs: Path, folder: Path) -> None:
    """Make ``<outputs>/latest`` point at a run folder, in one step."""
    latest = outputs / LATEST
    temporary = outputs / f".{LATEST}.{os.getpid()}"
    outputs.mkdir(parents=True, exist_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(folder.resolve(), outputs.resolve()), target_is_directory=True)
        temporary.replace(latest)
    except OSError:  # Windows without the right to make links, or a real folder of that name
        temporary.unlink(missing_ok=True)
        log.warning("%s could not be made to point at %s; give run=%s to the other commands.", latest, folder, folder)


def find(run: str | None, outputs: Path) -> Path:
    """The run folder that ``run=`` means: a run folder, its ``model/`` folder, or by default the newest.

    Raises:
        UserError: there is none.
    """
    if run is None:
        folder = outputs / LATEST
        if not folder.exists():
            raise UserError(f"There is no run at {folder} yet: train first (python -m landuse.train) or give run=PATH.")
        return folder.resolve()
    folder = Path(run)
    if not folder.is_dir():
        raise UserError(f"run={run}: no such folder. Give a run folder or its model/ folder.")
    return folder.resolve().parent if (folder / "model.json").is_file() else folder.resolve()
