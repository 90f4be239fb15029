"""What every command shares: Hydra's composition in, typed configuration to the job, exit codes out.

Nothing here imports torch; a job imports it in its own body, after the configuration has been found to be right.
"""

import atexit
import contextlib
import errno
import io
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from landuse import interrupts
from landuse.config import compose, messages
from landuse.config.folders import config_dir
from landuse.config.processes import Place
from landuse.config.schema import Config
from landuse.errors import FailureError, Interrupted, PrunedError, UserError, printable
from landuse.sweeps.database import hide_password

PLACE_IS_UNUSABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
    errno.ENAMETOOLONG,
)  # fmt: skip
# What libraries say of a full disk instead of raising an OSError: safetensors, and torch in its own words.
DISK_IS_FULL = ("No space left on device", "PytorchStreamWriter failed", "unexpected pos")
MEMORY_IS_FULL = ("can't allocate memory", "out of memory")  # torch's words for the host's and a GPU's
CURES = {
    "train": "choose another place with outputs=PATH, hydra.run.dir=PATH or data.home=PATH",
    "evaluate": "copy the run to another place and give run=PATH, or choose another data.home=PATH",
    "report": "copy the run to another place and give run=PATH",
    "reproduce": "choose another place with outputs=PATH or data.home=PATH",
    "download": "choose another place with data.home=PATH",
    "preprocess": "choose another place with data.home=PATH",
    "export": "copy the run to another place and give run=PATH",
    "predict": "choose another file with predict.output=PATH",
    "drift": "choose another place with outputs=PATH",
    "map": "choose another folder with output=PATH",
}
SIZES = {
    "predict": "predict.batch_size",
    "serve": "serve.max_pixels",
    "map": "map.batch_size (32 on a CPU, 128 on a GPU) or map.num_workers",
}  # what memory grows with
EXIT_FAILURE, EXIT_USER_ERROR = 1, 2
# Of several processes, torchrun ends the others as soon as one has ended, so whoever has more to say must be first.
WAIT_FOR_THE_FIRST_S, WAIT_FOR_THE_CAUSE_S = 10, 20


@dataclass(frozen=True)
class Invocation:
    """How a job was called, beside its configuration."""

    command: str
    arguments: list[str]  # the command line behind "python -m landuse.<command>"
    overrides: list[str]  # as typed, for example ["model=cnn", "trainer.lr=0.1"]
    composed: DictConfig
    output_dir: Path  # hydra.run.dir, or the job's folder in a multirun
    is_multirun: bool

    def names(self, key: str) -> bool:
        """Whether the command line sets this very key."""
        return any(override.lstrip("+").startswith(f"{key}=") for override in self.overrides)

    @property
    def asks_for_tracking(self) -> bool:
        """Whether the command line says whether to send to W&B: what a run folder says may be a stranger's."""
        return self.names("tracking") or self.names("tracking.mode")

    @property
    def command_line(self) -> str:
        """What repeats this one job."""
        arguments = self.overrides if self.is_multirun else self.arguments
        return shlex.join(["python", "-m", f"landuse.{self.command}", *arguments])


Job = Callable[[Config, Invocation], Any]


class _MessageOfSingleRun(BaseException):
    """Carries a message past Hydra, which would print a line of its own above it for any Exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) if isinstance(error, FailureError) else messages.explain(error))
        self.status = _status(error)


class _ReaderIsGone(BaseException):
    """As in `--help | head`: whoever read stdout has seen enough. Past Hydra likewise."""


def _status(error: Exception) -> int:
    return EXIT_FAILURE if isinstance(error, FailureError) else EXIT_USER_ERROR


def run_command(command: str, job: Job) -> None:
    """Compose the configuration from ``sys.argv``, run ``job`` on it, and exit with a status that says how it went.

    0: done. 1: a failure, with its traceback, or in a sentence what was found (a repeated run that came out different,
    drift, a variant that was refused). 2: the user's mistake, in one or two sentences. 130, 143: interrupted by Ctrl-C
    or SIGTERM.
    """
    _prepare_streams()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them and exiting with 1
    arguments = [hide_password(argument) for argument in sys.argv[1:]]
    sys.argv[1:] = _hydra_arguments(command, arguments)
    compose.register()
    has_started = False

    @hydra.main(config_path=str(config_dir()), config_name="config")
    def task(composed: DictConfig) -> Any:
        nonlocal has_started
        has_started = True
        now = HydraConfig.get()
        output_dir, is_multirun = Path(now.runtime.output_dir), now.mode is RunMode.MULTIRUN
        with no_empty_folder(output_dir, Path(OmegaConf.select(composed, "outputs", default="outputs"))):
            try:
                call = Invocation(command, arguments, list(now.overrides.task), composed, output_dir, is_multirun)
                return _result(job, compose.to_config(composed), call)
            except (UserError, FailureError, OmegaConfBaseException) as error:
                if is_multirun:
                    _write_error(output_dir)
                    raise  # one job of several: the sweeper decides
                raise _MessageOfSingleRun(error) from error
            except Exception as error:
                if is_multirun and not isinstance(error, PrunedError):
                    _write_error(output_dir)
                if is_multirun or (problem := _problem_of_place(error, command)) is None:
                    raise
                raise _MessageOfSingleRun(UserError(problem)) from error

    try:
        with interrupts.as_exceptions():
            task()
    except _MessageOfSingleRun as single:
        _exit_with_message(str(single), wants_traceback, single.status)
    except (UserError, FailureError) as error:
        _exit_with_message(str(error), wants_traceback, _status(error))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        _exit_with_message(messages.explain(error), wants_traceback)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Interrupted as error:
        if Place.find().local_rank == 0:  # the others were interrupted as well
            print(error, file=sys.stderr, flush=True)
        sys.exit(128 + error.signal_number)
    except (BrokenPipeError, _ReaderIsGone):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILURE)
    except Exception as error:
        problem = (not has_started and _problem_at_start(error, arguments)) or _problem_of_place(error, command)
        if problem:
            _exit_with_message(problem, wants_traceback)
        traceback.print_exc()
        sys.exit(EXIT_FAILURE)


def leave() -> None:
    """End this process, whose command is done, at once: after torch, Python takes 0.7 s to take its modules apart.

    What wants to be told of the end is told, and what was printed is written. With threads still at work, or output
    that cannot be written, Python ends as it always does.
    """
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        return
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(0)


def _result(job: Job, config: Config, call: Invocation) -> Any:
    try:
        return job(config, call)
    except SystemExit as exit_:  # of a model's own code: one of several has failed, and the others go on
        if not call.is_multirun:
            raise
        raise RuntimeError("the training ended by SystemExit") from exit_
    except BrokenPipeError as error:
        if call.is_multirun:
            raise
        raise _ReaderIsGone from error


def _problem_at_start(error: Exception, arguments: list[str]) -> str | None:
    """The message for an error of Hydra's before the job, of which it says nothing useful itself."""
    if isinstance(error, OSError):  # Hydra could not make the folder
        return f"The run folder cannot be made ({error}): choose another with hydra.run.dir=PATH or outputs=PATH."
    if isinstance(error, ValueError) and "Only one of --run" in str(error):
        return "Leave out --multirun where --cfg or --info show the configuration."
    if isinstance(error, UnicodeDecodeError):
        return f"A chosen recipe is no text ({error}): save its YAML file as UTF-8."
    if isinstance(error, RecursionError):
        return "A chosen recipe names itself in its defaults: take it out there."
    return messages.wrong_group_value(arguments) if isinstance(error, ValueError) else None


def _write_error(folder: Path) -> None:
    """Keep the traceback of a job of several, which nobody would see otherwise."""
    with contextlib.suppress(OSError):
        (folder / "error.txt").write_text(
            traceback.format_exc(), encoding="utf-8", errors="backslashreplace", newline="\n"
        )


def _prepare_streams() -> None:
    """Make the standard streams take whatever is written.

    One that the caller closed (``2>&-``) is None in Python, which libraries do not expect. And a stdout that knows few
    characters, as that of Windows' consoles, raises at the others: like stderr it gets them as escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 (for the rest of the process)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _problem_of_place(error: BaseException | None, command: str) -> str | None:
    """The message when an error, or what it came of, says that a disk, a folder or the memory cannot take it."""
    cure = f"Make room or allow writing there, or {CURES.get(command, 'run it in another folder')}."
    while error is not None:
        if isinstance(error, OSError) and error.errno in PLACE_IS_UNUSABLE:
            return f"{error.filename or 'While writing'}: {error.strerror}. {cure}"
        if any(text in str(error) for text in DISK_IS_FULL):
            return f"While writing: No space left on device. {cure}"
        if isinstance(error, MemoryError) or any(text in str(error) for text in MEMORY_IS_FULL):
            reason = (str(error).splitlines() or ["no room"])[0][:200]
            if command in ("export", "predict", "serve", "drift", "map"):
                lower = f"Lower {SIZES[command]}, or end" if command in SIZES else "End"
                return f"Out of memory ({reason}). {lower} other programs."
            return (
                f"Out of memory ({reason}). Lower trainer.batch_size or data.image_size, or end other programs; a run "
                "goes on from its last checkpoint with hydra.run.dir=<its folder> trainer.resume=auto."
            )
        error = error.__cause__ or error.__context__
    return None


def _hydra_arguments(command: str, arguments: list[str]) -> list[str]:
    """Arguments for Hydra: the job's name, and what is written shorter than Hydra takes it, in canonical form."""
    canonical = []
    for argument in arguments:
        if argument.startswith(("debug=", "sweeps=")):
            argument = "+" + argument
        elif argument.startswith("+experiment="):
            argument = argument[1:]
        elif command == "report" and argument == "check":
            argument = "report.check=true"
        elif command == "map" and argument == "merge":
            argument = "map.merge=true"
        elif argument.startswith("map.colours="):  # whose keys are the classes', which no schema knows
            argument = "++" + argument
        elif command == "evaluate" and argument.startswith("robustness="):
            argument = f"evaluation.{argument}"
        elif argument.startswith("runs=") and not argument.startswith("runs=["):
            argument = f"runs=[{argument.removeprefix('runs=')}]"
        canonical.append(argument)
    defaults = [f"hydra.job.name={command}"]
    if command != "train":  # the others write into the data folder or into the run they are given
        defaults.append("hydra.run.dir=.")
    # The run folder is made by the first of several processes; the others are told its name.
    return defaults + canonical + (["hydra.run.dir=."] if Place.find().rank > 0 else [])


@contextlib.contextmanager
def no_empty_folder(folder: Path, outputs: Path) -> Iterator[None]:
    """Remove the run folder that Hydra made, and its empty parents, when a job ends without having written anything."""
    try:
        yield
    finally:
        root, candidate = outputs.resolve(), folder.resolve()
        with contextlib.suppress(OSError):  # the first that is not empty stays, and so do those above it
            while candidate.is_relative_to(root) and candidate != Path.cwd():
                candidate.rmdir()
                candidate = candidate.parent


def _exit_with_message(message: str, wants_traceback: bool, status: int = EXIT_USER_ERROR) -> None:
    if wants_traceback:
        traceback.print_exc()
    text = f"error: {printable(message)}" if message else ""
    if status == EXIT_USER_ERROR:
        _say(text)
    else:  # each process's own
        print(text, file=sys.stderr, flush=True)
        if Place.find().size > 1:
            time.sleep(WAIT_FOR_THE_CAUSE_S)
    sys.exit(status)


def _say(message: str) -> None:
    """On stderr; what all processes of a machine have to say is said by the first.

    One that is still there after a while has something of its own to say. An empty message is another's to say.
    """
    if Place.find().local_rank > 0 or not message:
        time.sleep(WAIT_FOR_THE_FIRST_S)
    if message:
        print(message, file=sys.stderr, flush=True)
