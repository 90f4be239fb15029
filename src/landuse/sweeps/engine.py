"""The sweep itself: claim a trial, have Hydra's launcher train it, tell the study, until enough have finished."""

import gc
import json
import logging
import os
import shlex
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf, read_write

from landuse import interrupts, runs
from landuse.config.messages import explain
from landuse.config.overrides import quoted
from landuse.config.schema import LogConfig
from landuse.errors import Interrupted, PrunedError, UserError
from landuse.sweeps import trial as trials
from landuse.sweeps import workers
from landuse.sweeps.best import write_best
from landuse.sweeps.database import shown_url
from landuse.sweeps.objective import read_curve, read_values
from landuse.sweeps.plan import Plan, make_plan
from landuse.sweeps.records import SweepRecord, TrialRecord, repeats, shown_params, shown_values
from landuse.sweeps.space import shown_distribution
from landuse.sweeps.study import Sweep
from landuse.tracking import logs

log = logging.getLogger(__name__)

FIRST_POINTS = 5  # that a dry run shows


def run(
    config: DictConfig, loader: Any, make_launcher: Callable[[], Any], settings: Mapping[str, Any], arguments: list[str]
) -> float | None:
    """Run a sweep to its end, or to where it is interrupted.

    Args:
        config: the composition of the multirun, ``hydra`` included.
        loader: Hydra's config loader.
        make_launcher: makes Hydra's launcher of ``config``, once that is complete.
        settings: of ``hydra.sweeper``.
        arguments: overrides that are the trials'.

    Returns:
        The best value of the first objective; None where there is none yet.

    Raises:
        UserError: the configuration is wrong, or the study cannot be used.
        SweepFailedError: too many trials failed.
    """
    logs.to_stderr(_log_config(config))
    plan = make_plan(config, loader, _plain(settings), arguments)
    if settings["dry_run"]:
        _show_plan(plan)
        return None
    with read_write(config.hydra):
        config.hydra.sweep.dir = str(plan.folder)  # which a launcher makes
    launcher = make_launcher()
    if getattr(launcher, "joblib", {}).get("n_jobs") == -1:  # its default: a process for each core, of one thread
        launcher.joblib["n_jobs"] = plan.n_jobs
    _share_cores(launcher, plan.n_jobs)
    for name in ("hydra", "hydra_plugins"):  # launchers show every override of a job, ours included
        logging.getLogger(name).setLevel(logging.WARNING)
    session = os.environ.get(workers.SESSION) or uuid.uuid4().hex
    is_worker = workers.is_worker()
    if is_worker:
        workers.end_with_the_parent()
    sweep = Sweep(plan, session, is_under_way=is_worker)
    with logs.also_to(plan.folder / "sweep.log", "landuse.sweeps"):
        if is_worker:
            _run_trials(sweep, launcher, config)
            return None
        try:
            if settings["workers"] > 0:
                workers.supervise(sweep, session, settings["workers"], config.trainer.device)
            else:
                _run_trials(sweep, launcher, config)
        except (Interrupted, KeyboardInterrupt):
            log.warning("interrupted: trials that were running are queued again")
            raise
        finally:
            sweep.publish()
            finish(sweep.record(), config, loader, plan)
    best = sweep.record().best()
    return best[0].values[0] if best else None


def _log_config(config: DictConfig) -> LogConfig:
    return LogConfig(level=config.log.level, file_level=config.log.file_level)


def _share_cores(launcher: Any, num_jobs: int) -> None:
    """Divide the cores among the processes of a launcher that leaves all of them to each."""
    if type(launcher).__name__ == "LocalLauncher":  # submitit's; joblib's does it, and clusters have cores of their own
        os.environ.setdefault("OMP_NUM_THREADS", str(len(workers.share_of_cores(0, num_jobs))))


def _run_trials(sweep: Sweep, launcher: Any, config: DictConfig) -> None:
    while claimed := _claim(sweep):
        for trial in claimed:
            log.info("trial %d begins: %s", trial.number, shown_params(trial.params))
        _launch(sweep, launcher, claimed, config)
        _free_memory()


def finish(record: SweepRecord, config: DictConfig, loader: Any, plan: Plan) -> None:
    """Write the best trial as a recipe and the report; say how it went and how it goes on."""
    from landuse.sweeps.report import write_report

    logs.to_stderr(_log_config(config))
    counts = ", ".join(
        f"{n} {state}"
        for state in ("complete", "pruned", "failed", "interrupted", "running", "waiting")
        if (n := record.count(state))
    )
    for failed in (trial for trial in record.trials if trial.state == "failed"):
        log.warning("failed      trial %d: %s (%s/error.txt)", failed.number, failed.reason, failed.run)
    log.info("%s (%s)", record.progress, counts or "none begun")
    if record.num_finished < record.n_trials:
        log.info("continue    the same command; a sweep goes on where it stopped")
    for repeat in repeats(record):
        log.info("over seeds  %s", repeat)
    retrain = None
    if best := record.best():
        write_best(best[0], config, loader, plan)
        retrain = retrain_command(plan, best[0])
        log.info(
            "best        trial %d: %s; %s", best[0].number, _shown(plan, best[0].values), shown_params(best[0].params)
        )
        log.info("retrain it  %s", retrain)
    log.info("report      %s", write_report(record, plan.folder, retrain))


def retrain_command(plan: Plan, trial: TrialRecord) -> str:
    """What trains the best trial's recipe, on as many threads as the trial had: others would round otherwise."""
    folder = plan.folder.resolve()
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    command = ["python", "-m", "landuse.train", "--config-dir", str(shown.parent), f"+{shown.name}=best"]
    with suppress(OSError, ValueError, KeyError, TypeError):  # people may have removed or changed the run
        hardware = json.loads((Path(trial.run) / "provenance.json").read_text(encoding="utf-8"))["hardware"]
        if hardware["device"] == "cpu":
            command.append(f"hardware.num_threads={int(hardware['num_threads'])}")
    return shlex.join(command)


def _claim(sweep: Sweep) -> list[Any]:
    claimed: list[Any] = []
    while len(claimed) < sweep.plan.n_jobs and (trial := sweep.claim()) is not None:
        claimed.append(trial)
    return claimed


def _launch(sweep: Sweep, launcher: Any, claimed: Sequence[Any], config: DictConfig) -> None:
    """Train the claimed trials and tell the study how each ended."""
    plan = sweep.plan
    jobs = [[*plan.space.overrides(trial.params), *_job_overrides(plan, trial.number, config)] for trial in claimed]
    returns: Sequence[JobReturn | None] = [None] * len(jobs)
    problem = "its process ended without a result"
    try:
        returns = _launched(launcher, jobs, claimed[0].number)
    except Exception as error:  # a launcher's worker was killed, for example
        problem = f"{type(error).__name__}: {error}"
        for trial in claimed:
            _wait_for(sweep.run_folder(trial.number))
    except BaseException:  # Ctrl-C or SIGTERM
        for trial in claimed:
            if not sweep.keep_result(trial.number):  # it may have come in the very last step
                sweep.fail(trial.number, "the sweep was interrupted", is_fault=False, queue_again=True)
        raise
    finally:
        logs.to_stderr(_log_config(config))  # what follows is not the trial's
    is_counted = False  # one process that was killed is one failure, though its launcher then gives up all of them
    for trial, ended in zip(claimed, returns, strict=True):
        has_failed = _tell(sweep, trial.number, ended, problem, is_fault=ended is not None or not is_counted)
        is_counted |= has_failed and ended is None
    sweep.publish()


def _launched(launcher: Any, jobs: list[list[str]], first: int) -> Sequence[JobReturn | None]:
    try:
        returns: Sequence[JobReturn | None] = launcher.launch(jobs, initial_job_idx=first)
        return returns
    finally:
        interrupts.raise_received()  # Hydra may have taken it for an error of a job's


def _wait_for(run_folder: Path) -> None:
    """Until nobody trains there: a launcher gives up at the first job that breaks, while others go on."""
    while True:
        try:
            with runs.claimed(run_folder):
                return
        except UserError:
            time.sleep(1)
        except OSError:
            return


def _tell(sweep: Sweep, number: int, ended: JobReturn | None, problem: str, *, is_fault: bool) -> bool:
    """Tell the study how a trial ended; whether it failed."""
    run_folder, plan = sweep.run_folder(number), sweep.plan
    error = ended._return_value if ended is not None and isinstance(ended._return_value, BaseException) else None
    if isinstance(error, PrunedError):
        sweep.prune(number)
        log.info("trial %d: %s", number, error)
        return False
    try:
        values = read_values(run_folder, plan.objectives) if error is None else []
    except PrunedError:  # before its process was killed
        sweep.prune(number)
        return False
    except (OSError, ValueError) as missing:
        problem, error = (problem if ended is None else str(missing)), None
        values = []
    if values:
        sweep.complete(number, values, read_curve(run_folder, plan.monitor))
        log.info("trial %d: %s; %s", number, _shown(plan, values), shown_params(sweep.record().trials[number].params))
        return False
    reason = _reason(error) if error is not None else problem.splitlines()[0]
    details = problem if error is None else "".join(traceback.format_exception(error)).rstrip()
    sweep.fail(number, reason, details, is_fault=is_fault, queue_again=ended is None)
    log.warning("trial %d failed: %s", number, reason)
    return True


def _job_overrides(plan: Plan, number: int, config: DictConfig) -> list[str]:
    environment = trials.environment(plan.folder, plan.name, number)
    group = [] if OmegaConf.select(config, "tracking.group") else [f"tracking.group={quoted(plan.name)}"]
    return [
        *group,
        f"hydra.sweep.dir={quoted(str(plan.folder))}",
        f"hydra.sweep.subdir=trials/{number}",
        *(f"+hydra.job.env_set.{key}={quoted(value)}" for key, value in environment.items()),
    ]


def _reason(error: BaseException) -> str:
    text = explain(error) if isinstance(error, Exception) else str(error)
    shown = text.encode("utf-8", "backslashreplace").decode("utf-8")  # it may quote a file name that is none in UTF-8
    return f"{type(error).__name__}: {shown}".strip(": \n")


def _free_memory() -> None:
    """What a trial that ended in an error still holds, above all a GPU's memory."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _show_plan(plan: Plan) -> None:
    from landuse.sweeps.study import first_points

    log.info("sweep       %s, in %s", plan.name, shown_url(plan.storage) if plan.storage else plan.folder)
    log.info("objective   %s", ", ".join(f"{o.direction} {o.name}" for o in plan.objectives))
    for key, distribution in plan.space.describe().items():
        log.info("swept       %s: %s", key, shown_distribution(distribution))
    log.info("fixed       %s", " ".join(plan.space.fixed))
    epochs = plan.base.get("trainer.epochs")
    total = f", at most {plan.n_trials * epochs} epochs" if isinstance(epochs, int) else ""
    log.info("budget      %d trials%s; pruner %s", plan.n_trials, total, plan.pruner["_target_"].rpartition(".")[2])
    for number, point in enumerate(first_points(plan, FIRST_POINTS)):
        log.info("point %d     %s", number, shown_params(point))


def _shown(plan: Plan, values: Sequence[float]) -> str:
    return shown_values(plan.objectives, values)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in settings.items()
    }
