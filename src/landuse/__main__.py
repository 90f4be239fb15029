"""python -m landuse COMMAND [overrides]: the commands under one name, as the containers' entry point."""

import os
import runpy
import shlex
import signal
import sys

COMMANDS = {
    "train": "train a model",
    "evaluate": "open the test split of a run",
    "report": "write pages about runs, check them, compare them",
    "reproduce": "train a run again and compare",
    "sweep": "search for the best settings",
    "export": "make what serves a model, without torch",
    "predict": "classify images",
    "serve": "answer requests over HTTP",
    "map": "make a land-use map of a large scene",
    "drift": "compare images with those the model was validated on",
    "download": "get a dataset",
    "preprocess": "check, split and pack a dataset",
    "storage": "check DVC's bucket and account",
    "track": "send a run to W&B",
    "params": "write DVC's params.yaml",
}
# A command and overrides that go before the typed ones, of a command line that names the same command or begins with an
# override. Images set it, so that `docker run IMAGE model=cnn` trains.
DEFAULT = "LANDUSE_COMMAND"
EXIT_USER_ERROR = 2


def choose(words: list[str], default: str | None) -> tuple[str, list[str]]:
    """The command and its arguments.

    Args:
        words: what was typed; the first may be a command's name.
        default: command and overrides as in the environment's LANDUSE_COMMAND.

    Raises:
        ValueError: no command was named and there is no default, or its name is unknown.
    """
    try:
        name, *before = shlex.split(default or "") or [""]
    except ValueError as error:
        raise ValueError(f"{DEFAULT}={default} cannot be read ({error}): mend or unset it.") from error
    if name and name not in COMMANDS:
        raise ValueError(f"{DEFAULT} names no command but {name!r}: choose one of {', '.join(COMMANDS)}, or unset it.")
    first = words[0] if words else ""
    if first in COMMANDS:
        return first, [*(before if first == name else []), *words[1:]]
    is_override = not first or first.startswith("-") or "=" in first
    if name and is_override:
        return name, [*before, *words]
    what = "No command was given" if is_override else f"There is no command {first!r}"
    raise ValueError(f"{what}; choose one of {', '.join(COMMANDS)}.")


def main() -> None:
    """Entry point of landuse: as ``python -m landuse.COMMAND``, in this process."""
    default = os.environ.get(DEFAULT)
    if sys.argv[1:2] in (["-h"], ["--help"]) and default is None:
        print("python -m landuse COMMAND [overrides]\n")
        print("\n".join(f"  {name:12}{what}" for name, what in COMMANDS.items()))
        print("\nOf each: python -m landuse COMMAND --help")
        return
    try:
        command, arguments = choose(sys.argv[1:], default)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    if os.getpid() == 1:  # the kernel drops a signal to a container's first process that has no handler for it
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.argv[1:] = arguments
    runpy.run_module(f"landuse.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
