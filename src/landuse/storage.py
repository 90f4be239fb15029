"""python -m landuse.storage: check the account and the bucket of DVC's remote, before anything is pulled or pushed."""

from pathlib import Path

from landuse.cli import Invocation, run_command
from landuse.config.schema import Config
from landuse.config.validate import validate_storage


def storage(config: Config, call: Invocation) -> None:
    """Say which bucket and account DVC will use and what the account may do there.

    The answer goes to stdout: it is what the command is for, and no log is opened, which costs start-up time.

    Raises:
        UserError: the data cannot be read, or not written where ``storage.needs=write``.
    """
    from landuse.cloud import preflight

    validate_storage(config.storage)
    for line in preflight.check(config.storage, Path.cwd()).lines():
        print(line)


def main() -> None:
    """Entry point of landuse-storage."""
    run_command("storage", storage)


if __name__ == "__main__":
    main()
