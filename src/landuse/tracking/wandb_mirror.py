"""Weights & Biases as a mirror of metrics.jsonl. It may fail at any call; the run never notices."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from landuse.config.schema import Config
from landuse.runs import to_tree

log = logging.getLogger(__name__)


class WandbMirror:
    """An observer that copies each epoch to W&B until the first failure, which it reports once."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._run: Any = None
        self._guard(lambda: self._start(config, folder))

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        """Nothing: only epochs are mirrored."""

    def epoch(self, record: dict[str, Any]) -> None:
        if self._run is not None:
            self._guard(lambda: self._run.log(record, step=record["epoch"]))

    def finish(self, summary: dict[str, Any], exit_code: int) -> None:
        """Close the W&B run."""
        if self._run is not None:
            self._guard(lambda: self._run.summary.update(summary))
        if self._run is not None:
            self._guard(lambda: self._run.finish(exit_code=exit_code))

    def _start(self, config: Config, folder: Path) -> None:
        import wandb

        tracking = config.tracking
        mode: Literal["offline", "online"] = "online" if tracking.mode == "online" else "offline"
        self._run = wandb.init(
            project=tracking.project, entity=tracking.entity, group=tracking.group, tags=tracking.tags, mode=mode,
            name=f"{config.experiment_name}/{folder.name}", dir=str(folder), config=to_tree(config),
            reinit="create_new",  # else a second job of this process would be logged into the first one's run
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )  # fmt: skip

    def _guard(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # whatever a tracker raises must not end a training
            self._close()
            log.warning("W&B failed and is left out from here on (metrics.jsonl has everything): %s", error)

    def _close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            with contextlib.suppress(Exception):  # it has failed already, and was reported
                run.finish(exit_code=1)


class NoMirror:
    """tracking=off."""

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        """Nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def finish(self, summary: dict[str, Any], exit_code: int) -> None:
        """Nothing."""


def build_mirror(config: Config, folder: Path) -> WandbMirror | NoMirror:
    """The W&B mirror, or one that does nothing where tracking is off."""
    return NoMirror() if config.tracking.mode == "off" else WandbMirror(config, folder)
