"""python -m landuse.params: write the composed configuration to params.yaml, through which DVC sees it."""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.files import replacing
from landuse.runs import to_tree
from landuse.tracking import logs

log = logging.getLogger(__name__)

FILE = Path("params.yaml")
HEADER = "# Composed by python -m landuse.params; a stage of dvc.yaml keeps it fresh. Edit conf/, not this file.\n"
# What says where and how a pipeline runs, and not what comes out of it.
MACHINE_ONLY = (
    "run", "runs", "run_name", "experiment_name", "outputs", "hardware", "tracking", "storage", "report", "log",
    "variant", "input", "output", "shard", "export", "predict", "serve", "map", "drift",
    "data.home", "data.manifest", "data.licence", "data.gsd", "data.tile_size", "data.archive.mirrors",
    "data.archive.timeout", "data.archive.retries", "trainer.device", "trainer.resume", "trainer.log_every",
    "trainer.checkpoint_steps", "trainer.checkpoint_minutes", "trainer.profile", "evaluation.batch_size",
)  # fmt: skip


def params(config: Config, call: Invocation) -> None:
    """Write params.yaml in the current folder.

    Raises:
        UserError: the configuration is wrong.
    """
    validate(config)
    logs.to_stderr(config.log)
    with replacing(FILE) as temporary:
        temporary.write_text(text(config), encoding="utf-8", newline="\n")
    log.info("%s written", FILE)


def text(config: Config) -> str:
    """The content of params.yaml: sorted, resolved, without what belongs to the machine."""
    tree: dict[str, Any] = to_tree(config)
    for key in MACHINE_ONLY:
        *path, leaf = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        del node[leaf]
    tree["version"] = version("landuse")  # another release may compute something else from the same configuration
    return HEADER + yaml.safe_dump(tree, sort_keys=True, allow_unicode=True)


def main() -> None:
    """Entry point of landuse-params."""
    run_command("params", params)


if __name__ == "__main__":
    main()
