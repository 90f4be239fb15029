"""python -m landuse.cloud.job: run a command on a machine that may be taken away, with its results in a bucket.

    python -m landuse.cloud.job --results gs://bucket/prefix -- train model=resnet18 run_name=a trainer.resume=auto

What an earlier attempt has left at that address is put back first, so that the same command goes on. While the command
runs, new and changed files of its outputs are copied, and once more at its end. The status is the command's; where that
is 0 and a file did not arrive, it is 1. A copy that fails ends no training.

The order makes each moment's copy one to go on from: a checkpoint ``last.pt`` is opened before anything else of a pass
is read and written after all of it, so that metrics and best weights in the bucket are never older than it. A file that
the bucket refuses is named, and the others go on.

One command at a time may write to an address: this process does not notice a second one, and the files of both would be
mixed (docker/gcp/cloud.py starts no job whose name another one still has). Killed with SIGKILL outside of a container,
it leaves the command running without copies: end that one as well.
"""

import argparse
import base64
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from landuse.cloud import accounts, credentials
from landuse.cloud.bucket import Bucket
from landuse.cloud.copier import Copier, said, tell
from landuse.cloud.endpoint import redirected
from landuse.cloud.remote import Remote
from landuse.cloud.transport import Client, shown
from landuse.errors import FailureError, Interrupted, UserError

WHILE_RUNNING_S, AT_THE_END_S = 10.0, 120.0  # how long a failing copy is tried again
SECRETS = "https://secretmanager.googleapis.com/v1"
SECRETS_WITHIN_S = 30.0
EVERY_S = (0.1, 86400.0)


class Signals:
    """SIGTERM and SIGINT while this is entered: for the command, and before there is one the end of the preparations.

    As the first process of a container this one gets no signal that it has no handler for.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._waiting: list[int] = []  # those that came while the command was being started
        self._interrupts = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        for known in (signal.SIGTERM, signal.SIGINT):
            self._before[known] = signal.signal(known, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for known, handler in self._before.items():
            signal.signal(known, handler)

    def start(self, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Start the command, which gets what signals come from now on."""
        self._interrupts = False
        # A session of its own: Ctrl-C in a terminal reaches both, and the command would take a second for impatience.
        self._child = subprocess.Popen(command, env=environment, start_new_session=True)
        self._hand_on()
        return self._child

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._interrupts:
            self._interrupts = False  # once: what is being cleared away by then is not disturbed
            raise Interrupted(number, f"Stopped by {signal.Signals(number).name} before the command began.")
        self._waiting.append(number)
        self._hand_on()

    def _hand_on(self) -> None:
        while self._child is not None and self._waiting:
            self._child.send_signal(self._waiting.pop(0))


def run(line: list[str], copier: Copier, every_s: float, environment: dict[str, str], signals: Signals) -> int:
    """Run the command, copying meanwhile and at its end; the status to exit with.

    SIGTERM and SIGINT go to the command, which writes a checkpoint and leaves; what it wrote is copied after that.
    """
    child = signals.start([sys.executable, "-m", f"landuse.{line[0]}", *line[1:]], os.environ | environment)
    done = threading.Event()
    copier.bucket.patience_s = WHILE_RUNNING_S
    thread = threading.Thread(target=_keep_copying, args=(copier, every_s, done), daemon=True)
    thread.start()
    status = child.wait()
    done.set()
    thread.join()
    status = 128 - status if status < 0 else status
    copier.bucket.patience_s = AT_THE_END_S
    try:
        copier.copy()
    except Exception as error:  # whatever it is, the command's status is not lost over it
        names = copier.waiting()
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        tell(f"error: {len(names)} files did not arrive at {copier.bucket.url} ({some}): {said(error)}")
        return status or 1
    return status


def _keep_copying(copier: Copier, every_s: float, done: threading.Event) -> None:
    told = ""
    while not done.wait(every_s):
        try:
            copier.copy()
            told = ""
        except Exception as error:  # none of them ends the copying: the next pass may succeed
            if (now := said(error)) != told:
                tell(f"warning: results are not all copied for now, and the command goes on: {now}")
            told = now


def read_secret(resource: str) -> str:
    """The value of ``projects/P/secrets/S/versions/V``, by the account of this machine.

    Raises:
        UserError: it cannot be had.
    """
    client, account = Client(SECRETS_WITHIN_S), credentials.find(Remote("secrets", "", ""), accounts.EVERYTHING)
    account.login(client)
    answer = client(redirected(f"{SECRETS}/{resource}:access"), headers=account.headers)
    secret = resource.partition("/versions/")[0].rpartition("/")[2]
    try:
        content = answer.json() or {}
        if answer.status == 200:
            value = base64.b64decode(content["payload"]["data"], validate=True).decode()
            if "\0" in value:
                raise ValueError("no variable of an environment can hold it")
            return value
        error = content.get("error") or {}
        reason = shown(error.get("message") or "no reason given").rstrip(".")
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as fault:
        raise UserError(
            f"The secret {secret} cannot be read: what is answered ({answer.status}) holds no text: give it one, "
            f"gcloud secrets versions add {secret} --data-file=-, and see that no proxy stands in between."
        ) from fault
    cure = {
        403: f"gcloud secrets add-iam-policy-binding {secret} --member={account.member} "
        "--role=roles/secretmanager.secretAccessor",
        404: f"give it a value: gcloud secrets versions add {secret} --data-file=-",
    }.get(answer.status, "try again in a few minutes")
    raise UserError(f"The secret {secret} cannot be read: {answer.status} ({reason}): {cure}.")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m landuse.cloud.job", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", required=True, metavar="gs://BUCKET/PREFIX", help="where results are kept")
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER", help="the command's results here (outputs)")
    parser.add_argument("--every", type=_pause, default=60.0, metavar="SECONDS", help="between two copies (60)")
    parser.add_argument("--secret", action="append", type=_secret, default=[],
                        metavar="VARIABLE=projects/P/secrets/S/versions/V",
                        help="for the command's environment; repeatable")  # fmt: skip
    parser.add_argument("command", nargs="+", help="such as: train model=cnn")
    return parser.parse_args(arguments)


def _pause(text: str) -> float:
    seconds = float(text)
    if not EVERY_S[0] <= seconds <= EVERY_S[1]:  # which no nan is
        raise argparse.ArgumentTypeError(f"{text} is not from {EVERY_S[0]} to {EVERY_S[1]:.0f} seconds")
    return seconds


def _secret(text: str) -> tuple[str, str]:
    variable, equals, resource = text.partition("=")
    if not (equals and variable and resource):
        raise argparse.ArgumentTypeError(f"'{text}' is not VARIABLE=projects/P/secrets/S/versions/V")
    return variable, resource


def main(arguments: list[str]) -> int:
    """Exit status: the command's; 1 if results did not arrive or cannot be put back, 2 for a mistake.

    128 + n: signal n came before the command had begun.
    """
    try:
        with Signals() as signals:
            options = _parse(arguments)
            if not options.results.startswith("gs://"):
                raise UserError(f"--results='{options.results}' is no place in a bucket: give gs://BUCKET/PREFIX.")
            copier = Copier(Path(options.outputs), Bucket(options.results, AT_THE_END_S))
            secrets = {name: read_secret(resource) for name, resource in options.secret}
            if restored := copier.restore():
                tell(f"{restored} files of an earlier attempt put back from {options.results}")
            return run(options.command, copier, options.every, secrets, signals)
    except (UserError, FailureError) as error:
        tell(f"error: {error}")
        return 2 if isinstance(error, UserError) else 1
    except Interrupted as stop:
        tell(str(stop))
        return 128 + stop.signal_number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
