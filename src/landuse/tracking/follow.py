"""python -m landuse.tracking.follow: copy a run folder to W&B while it grows, then what came of it.

Started by tracking/mirror.py, which writes an order (one line of JSON) to its stdin and at the end the run's status. It
answers on stdout in lines of JSON: where the run can be seen, what went wrong, and that all is done. Where the run is
killed, stdin ends without a status: the run is then closed as crashed.

An epoch that W&B has already is not sent again, so the same serves a resumed run, an evaluation later on, and a run
that is sent as a whole after the fact.
"""

import json
import os
import shutil
import signal
import sys
import threading
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from landuse.config.schema import TrackingConfig
from landuse.tracking import metrics_file
from landuse.tracking.mirror import Order
from landuse.tracking.results import Results

POLL_S = 1.0
CRASHED = 1


def main() -> None:
    """Do what the order says; exit with 0 where everything was copied."""
    answers = _own_stdout()
    try:
        order = Order(**json.loads(sys.stdin.buffer.readline()))
        _stay_behind()
        with redirect_stdout(sys.stderr):
            _follow(order, answers)
    except BaseException as error:
        _say(answers, error=_reason(error))
        raise
    _say(answers, done=True)


def _follow(order: Order, answers: IO[str]) -> None:
    end = _End()
    tracking = TrackingConfig(**order.tracking)
    folder = Path(order.folder)
    older = set(folder.glob(f"wandb/offline-run-*-{order.id}"))
    run = _start(order, tracking)
    if tracking.mode == "online":
        _say(answers, url=run.url)
    history = _History(run, folder / "metrics.jsonl")
    while not end.is_there.wait(POLL_S):
        history.copy()
    if end.status is None:  # the run was killed, and nobody waits for this process any more
        threading.Timer(tracking.timeout_s, lambda: os._exit(CRASHED)).start()
    try:
        history.copy()
        Results(run, folder, tracking).copy()
    finally:
        run.finish(exit_code=CRASHED if end.status is None else end.status)
    for segment in older:  # an offline run cannot be continued: the new one has everything
        shutil.rmtree(segment, ignore_errors=True)


def _start(order: Order, tracking: TrackingConfig) -> Any:
    import wandb

    folder = Path(order.folder)
    return wandb.init(
        id=order.id, resume="allow" if tracking.mode == "online" else None,
        project=tracking.project, entity=tracking.entity, group=tracking.group, tags=tracking.tags,
        name=order.name, job_type=order.job_type, dir=order.folder, config=_config(folder),
        settings=wandb.Settings(
            mode="online" if tracking.mode == "online" else "offline",
            silent=True, console="off", save_code=False, disable_git=True,
            # Within what the run waits at its end, so that there is time to say what was wrong.
            init_timeout=0.9 * tracking.timeout_s, finish_timeout=0.7 * tracking.timeout_s, finish_timeout_raises=True,
            x_stats_pid=order.parent,
        ),
    )  # fmt: skip


def _config(folder: Path) -> dict[str, Any]:
    """The run's configuration, and what its result depends on besides."""
    from landuse.runs import read_config

    config = read_config(folder)
    with suppress(OSError, ValueError):
        config["provenance"] = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    return config


@dataclass
class _History:
    """metrics.jsonl, epoch by epoch."""

    run: Any
    path: Path

    def __post_init__(self) -> None:
        last = self.run.summary.get("epoch")  # of a run that goes on, W&B sends along what it has
        self._last = int(last) if isinstance(last, int | float) else -1
        self._size = -1

    def copy(self) -> None:
        """Send the epochs that W&B does not have."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self._size:
            return
        self._size = size
        for record in metrics_file.read(self.path) if size else []:
            if record["epoch"] > self._last:
                # The step of the optimiser; further on where W&B has gone beyond it, which would drop the record.
                self.run.log(record, step=max(record.get("step", record["epoch"]), self.run.step))
                self._last = record["epoch"]


class _End:
    """The run's status, once it has come to its end."""

    def __init__(self) -> None:
        self.is_there, self.status = threading.Event(), cast(int | None, None)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(ValueError, OSError):
            self.status = int(sys.stdin.buffer.readline())
        self.is_there.set()


def _own_stdout() -> IO[str]:
    """The pipe to the run. What libraries and their processes print goes to stderr, so that the pipe ends with us."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _stay_behind() -> None:
    """Leave the cores to the run, and outlive the signals that it may be stopped by."""
    with suppress(OSError, AttributeError):
        os.nice(19)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _say(answers: IO[str], **message: Any) -> None:
    with suppress(OSError):  # nobody is there
        answers.write(json.dumps(message) + "\n")
        answers.flush()


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "api_key" in text or "not logged in" in text or type(error).__name__ == "AuthenticationError":
        text += " Log in with `wandb login`, set WANDB_API_KEY, or use tracking=offline."
    return text


if __name__ == "__main__":
    main()
