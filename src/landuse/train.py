"""python -m landuse.train: one training run, from configuration to run folder. What it does: training_run.py."""

from landuse import training_run
from landuse.cli import Invocation, leave, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.errors import UserError
from landuse.tracking import logs


def train(config: Config, call: Invocation) -> float:
    """Train one model.

    Returns:
        The best value of ``trainer.monitor``, the objective of sweepers.

    Raises:
        UserError: a mistake in the configuration or the data, or a training that diverged.
        Interrupted: by a signal, after a checkpoint was written.
    """
    for recipe in (override.partition("=")[2] for override in call.overrides if override.startswith("+sweeps=")):
        if not call.is_multirun:
            raise UserError(f"+sweeps={recipe} needs --multirun; or start python -m landuse.sweep name={recipe}.")
    validate(config)
    logs.to_stderr(config.log)
    return training_run.run(config, call)


def main() -> None:
    """Entry point of landuse-train."""
    run_command("train", train)


if __name__ == "__main__":
    main()
    leave()
