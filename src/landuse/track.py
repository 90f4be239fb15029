"""python -m landuse.track: send ``run=`` to Weights & Biases as it is, after a crash or for the first time."""

import logging
from pathlib import Path

from landuse import runs
from landuse.cli import Invocation, leave, run_command
from landuse.config import compose
from landuse.config.schema import Config
from landuse.config.validate import validate_tracking
from landuse.errors import FailureError, UserError
from landuse.tracking import logs
from landuse.tracking.artifacts import is_fetched
from landuse.tracking.mirror import LOG, send

log = logging.getLogger(__name__)


def track(config: Config, call: Invocation) -> None:
    """Send what W&B does not have yet of ``run=`` (by default the newest run): epochs, results, figures, model.

    Project, group and so on are the run's, unless the command line says otherwise; the mode is online, unless it does.

    Raises:
        UserError: no such run.
        FailureError: W&B did not take everything.
    """
    logs.to_stderr(config.log)
    folder = runs.find(config.run, Path(config.outputs), config.tracking.timeout_s)
    if is_fetched(folder):
        raise UserError(f"{folder} was fetched from W&B, which has it.")
    mode = config.tracking.mode if call.asks_for_tracking else "online"
    if mode == "off":
        raise UserError("tracking=off sends nothing: leave it out, or use tracking=offline.")
    config = compose.overlay(runs.read_config(folder), call.composed, call.overrides)
    config.tracking.mode = mode
    validate_tracking(config.tracking)
    if not send(config, folder):
        raise FailureError(f"W&B does not have everything of {folder}; {folder / LOG} may say more.")
    log.info("sent        %s", folder)


def main() -> None:
    """Entry point of landuse-track."""
    run_command("track", track)


if __name__ == "__main__":
    main()
    leave()
