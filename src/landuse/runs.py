"""Run folders: made, found, pointed at.

outputs/train/<experiment>/<time>/
    config.yaml metrics.jsonl summary.json provenance.json train.log report.html
    checkpoints/ model/ figures/
"""

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from landuse.config.schema import Config
from landuse.errors import UserError
from landuse.files import parse_yaml, read_text, rename, replacing

log = logging.getLogger(__name__)

LATEST = "latest"
LONGEST_POINTER = 4_096  # bytes, as of a path
LARGEST_CONFIG = LARGEST_SUMMARY = 1_000_000  # bytes
WHERE_NOT_WHAT = (
    "run", "outputs", "variant", "input", "output", "shard", "tracking.", "evaluation.", "export.", "predict.",
    "serve.", "map.", "drift.", "storage.", "report.", "log.", "data.home", "data.manifest", "data.licence", "data.gsd",
    "data.tile_size", "data.archive.mirrors", "data.archive.timeout", "data.archive.retries", "trainer.resume",
    "trainer.log_every", "trainer.checkpoint_",
)  # fmt: skip
# In a run that goes on: how long, and on which machine.
MAY_CHANGE = ("trainer.epochs", "trainer.device", "trainer.profile", "hardware.")
RUN_FILES = (
    "checkpoints", "model", "export", "figures", "profile", "config.yaml", "metrics.jsonl", "summary.json",
    "provenance.json", "scores.json", "evaluation*.json", "robustness*.json", "evaluations.jsonl", "predictions*.csv",
    "report.html", "train.log", "train.rank*.log", "evaluate.log", "tracking.log", "wandb.json", "wandb",
)  # fmt: skip


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process; the claim ends with the process, however that ends.

    Raises:
        UserError: another process is training in it, or it cannot be written to.
    """
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if lock.is_symlink():  # no lock of ours
            lock.unlink()
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows keeps an open file
                    lock.unlink()
    except Timeout as error:
        raise UserError(f"Another process is training in {folder}: choose another run_name=NAME.") from error


def require_free(folder: Path, config: Config) -> None:
    """Make sure that a training may begin or go on in this folder.

    Raises:
        UserError: it already holds a run and ``trainer.resume`` is not ``auto``, as nothing earlier is overwritten; or
            the run that would go on is of another configuration, as its files would then tell of the latter alone.
    """
    resume = config.trainer.resume
    goes_on = any((folder / "checkpoints").glob("*.pt")) and (folder / "config.yaml").is_file()
    if resume == "auto" and goes_on and (different := differences(folder, config, besides=MAY_CHANGE)):
        raise UserError(
            f"{folder} holds a run of another configuration ({different}): choose another run_name=NAME; with "
            f"trainer.resume={folder} it begins from this run's checkpoint."
        )
    if (folder / "metrics.jsonl").exists() and resume not in ("auto", "unfinished"):
        raise UserError(
            f"{folder} already holds a run. Continue it with trainer.resume=auto, or choose another folder with "
            "run_name=NAME or hydra.run.dir=PATH."
        )


def finished_summary(folder: Path, config: Config) -> dict[str, Any] | None:
    """The summary of the finished run that is in this folder, if ``trainer.resume=auto`` meets one.

    Raises:
        UserError: that run was made with another configuration, so it is no answer to this one.
    """
    path = folder / "summary.json"
    if config.trainer.resume != "auto" or not path.is_file():
        return None
    try:
        summary: dict[str, Any] = json.loads(read_text(path, LARGEST_SUMMARY))
        if summary["status"] != "completed" or not (folder / "model" / "model.json").is_file():
            return None  # a model that was removed is exported anew
        if not isinstance(summary[config.trainer.monitor], int | float):
            raise ValueError("its result is no number")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} is damaged: remove it to let the run go on.") from error
    if different := differences(folder, config):
        raise UserError(
            f"{folder} holds a finished run of another configuration ({different}): choose another run_name=NAME."
        )
    return summary


def differences(folder: Path, config: Config, besides: tuple[str, ...] = ()) -> str:
    """The first keys in which the run's configuration differs from this one, both values shown; empty: none do.

    Raises:
        UserError: as :func:`read_config`.
    """
    then, now = (comparable(tree) for tree in (read_config(folder), to_tree(config)))
    keys = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    different = [key for key in keys if not key.startswith(besides)]
    return ", ".join(f"{key}={then.get(key)} then and {now.get(key)} now" for key in different[:3])


def is_of(folder: Path, config: Config) -> bool:
    """Whether the run in this folder was made with this configuration."""
    try:
        return comparable(read_config(folder)) == comparable(to_tree(config))
    except UserError:
        return False


def clear(folder: Path) -> None:
    """Remove what training and evaluation write into a run folder; other files stay."""
    for pattern in RUN_FILES:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys and values of a configuration, without those that say where and how a run is done but not what."""
    flat = _flat(tree)
    return {key: value for key, value in flat.items() if not key.startswith(WHERE_NOT_WHAT)}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def create(folder: Path, config: Config) -> None:
    """Make the sub-folder for checkpoints and write config.yaml."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.yaml", config)


def write_config(path: Path, config: Config) -> None:
    """The resolved configuration as YAML, keys in the order of the schema."""
    with replacing(path) as temporary:
        temporary.write_text(
            yaml.safe_dump(to_tree(config), sort_keys=False, allow_unicode=True), encoding="utf-8", newline="\n"
        )


def to_tree(config: Config) -> dict[str, Any]:
    """Plain nested dictionaries and lists."""
    return dataclasses.asdict(config)


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.yaml as plain nested dictionaries.

    Raises:
        UserError: there is none, or it is no mapping.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(
            f"{folder} is no run folder (it has no config.yaml): run= must name a folder that training wrote."
        )
    try:
        tree = parse_yaml(read_text(path, LARGEST_CONFIG))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): run={folder} must name a folder that training wrote."
        ) from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} is no configuration: run={folder} must name a folder that training wrote.")
    return tree


def require_own_figures(folder: Path) -> None:
    """Make sure that what is drawn for a run goes into its folder, which may come from a stranger.

    Raises:
        UserError: the folder of figures is a link, or no folder.
    """
    figures = folder / "figures"
    if figures.is_symlink() or (figures.exists() and not figures.is_dir()):
        raise UserError(f"{figures} leads out of the run folder or is no folder: remove it, it is made anew.")


def point_latest(outputs: Path, folder: Path) -> None:
    """Make ``<outputs>/latest`` point at a run folder, in one step.

    It is a link; where the system grants none, as Windows does without its developer mode, a file that holds the path.
    """
    latest = outputs / LATEST
    temporary = outputs / f".{LATEST}.{os.getpid()}"
    outputs.mkdir(parents=True, exist_ok=True)
    target = _relative(folder.resolve(), outputs.resolve())
    try:
        temporary.unlink(missing_ok=True)  # of a killed process that had this number
        try:
            temporary.symlink_to(target, target_is_directory=True)
        except (OSError, NotImplementedError):
            with temporary.open("x", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                file.write(f"{target.as_posix()}\n")
        if os.name == "nt" and latest.is_symlink():  # Windows puts nothing in the place of a link to a folder
            latest.unlink()
        rename(temporary, latest)
    except OSError:  # a real folder of that name, for example
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        log.warning("%s could not be made to point at %s; give run=%s to the other commands.", latest, folder, folder)


def followed(path: Path) -> Path:
    """The path with ``latest`` in it followed, where :func:`point_latest` could not make it a link."""
    for latest in (path, *path.parents):
        if latest.name == LATEST and latest.is_file():
            with suppress(OSError, ValueError):
                if target := read_text(latest, LONGEST_POINTER).rstrip("\n"):
                    return latest.parent / target / path.relative_to(latest)
    return path


def _relative(path: Path, start: Path) -> Path:
    try:
        return Path(os.path.relpath(path, start))
    except ValueError:  # Windows, another drive
        return path


def find(run: str | None, outputs: Path, timeout_s: float = 60.0) -> Path:
    """The run folder that ``run=`` means.

    Args:
        run: a run folder, its ``model/`` folder, the ``.safetensors`` file in there, or a model in W&B as
            ``wandb:entity/project/name:alias``, which is fetched to below ``outputs``; None: the newest run.
        timeout_s: of a request to W&B, in seconds.

    Raises:
        UserError: there is none.
    """
    if run is None:
        folder = followed(outputs / LATEST)
        if not folder.exists():
            raise UserError(f"There is no run at {folder} yet: train first (python -m landuse.train) or give run=PATH.")
        return folder.resolve()
    if run.startswith("wandb:"):
        from landuse.tracking.artifacts import fetch

        return fetch(run, outputs, timeout_s)
    path = followed(Path(run))
    folder = path.parent if path.suffix == ".safetensors" and path.is_file() else path
    if not folder.is_dir():
        raise UserError(
            f"run={run}: no such folder. Give a run folder, its model/ folder, the .safetensors file in there, or "
            "wandb:entity/project/name:alias."
        )
    if folder is not path and not (folder / "model.json").is_file():
        raise UserError(f"run={run}: there is no model.json beside it, which says what the weights are.")
    return folder.resolve().parent if (folder / "model.json").is_file() else folder.resolve()
