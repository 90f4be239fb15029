"""python -m landuse.train: one training run, from configuration to run folder. What it does: training_run.py."""

from landuse import training_run
from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate
from landuse.tracking import logs


def train(config: Config, call: Invocation) -> float:
    """Train one model.

    Returns:
        The best value of ``trainer.monitor``, the objective of sweepers.

    Raises:
        UserError: a mistake in the configuration or the data, or a training that diverged.
        Interrupted: by a signal, after a checkpoint was written.
    """
    validate(config)
    logs.to_stderr()
    return training_run.run(config, call)


def main() -> None:
    """Entry point of landuse-train."""
    run_command("train", train)


if __name__ == "__main__":
    main()
