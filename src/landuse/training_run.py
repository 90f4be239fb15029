"""One training, from configuration to run folder: what the commands share that train.

The order of things: prepare the data, build the model, decide the hardware, fit, export the best weights, write summary
and report. The loop itself is in training/loop.py, optimisers in training/optim.py.
"""

import contextlib
import logging
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from landuse import runs
from landuse.config.overrides import typed
from landuse.config.processes import Place
from landuse.config.schema import Config, CustomModelConfig, ModelConfig
from landuse.config.validate import FEWEST_PER_PROCESS
from landuse.errors import Interrupted, PrunedError, UserError
from landuse.files import write_json
from landuse.sweeps.trial import PruningObserver, is_trial
from landuse.tracking import logs
from landuse.training.group import ALONE, Group

if TYPE_CHECKING:
    from torch import nn

    from landuse.data.pack import Pack
    from landuse.training.device import Runtime
    from landuse.training.loop import Trainer
    from landuse.training.observer import Observers

log = logging.getLogger(__name__)

Check = Callable[[dict[str, Any]], None]


class Call(Protocol):
    """How a command was called that trains; see :class:`landuse.cli.Invocation`."""

    @property
    def command(self) -> str:
        """Its name."""

    @property
    def output_dir(self) -> Path:
        """The run folder."""

    @property
    def is_multirun(self) -> bool:
        """Whether it is one job of several."""

    @property
    def command_line(self) -> str:
        """What repeats it."""


def run(config: Config, call: Call, check: Check | None = None) -> float:
    """Train one model of a configuration that was found to be right.

    Args:
        check: is given the run's provenance before anything is read from or written to the run folder, unless that run
            is finished already; may raise.

    Returns:
        The best value of ``trainer.monitor``.

    Raises:
        UserError: a mistake in the data or of the run folder, or a training that diverged.
        Interrupted: by a signal, after a checkpoint was written.
    """
    place = Place.find()
    if place.size == 1:
        with runs.claimed(call.output_dir):
            return _train(config, call, ALONE, check)
    if is_trial() or call.is_multirun:  # torch's processes do not meet a second time
        raise UserError("Each training of several (--multirun, sweeps) is one process's: start them without torchrun.")

    from landuse.training.distributed import meeting

    with contextlib.ExitStack() as claim, meeting(place, config.trainer.device) as group:
        group.first(lambda: claim.enter_context(runs.claimed(call.output_dir)))  # of which the others see nothing
        return _train(config, call, group, check)


def _train(config: Config, call: Call, group: Group, check: Check | None) -> float:
    finished = group.first(lambda: runs.finished_summary(call.output_dir, config))
    if finished is not None:
        log.info("%s is finished already; nothing to do", call.output_dir)
        group.first(lambda: _complete_report(call.output_dir))
        return float(finished[config.trainer.monitor])
    group.first(lambda: runs.require_free(call.output_dir, config))

    from landuse.data.pack import prepare  # decodes in worker processes, which start faster before torch is there

    pack = prepare(config.data)
    fewest = 2 if group.size == 1 else FEWEST_PER_PROCESS * group.size
    if pack.num_images["train"] < fewest:
        raise UserError(
            f"The training split has {pack.num_images['train']} image(s), and batch norm needs {fewest}: raise "
            "data.max_images or data.split.fractions, or add images."
        )
    summary = _run(config, pack, _initial_model(config, pack), call, group, check)
    return float(summary[config.trainer.monitor])


def _run(
    config: Config, pack: "Pack", model: "nn.Module", call: Call, group: Group, check: Check | None
) -> dict[str, Any]:
    from landuse.data.augment import image_sizes
    from landuse.tracking.mirror import mirroring
    from landuse.tracking.provenance import collect, resumed_from
    from landuse.training.device import build_runtime
    from landuse.training.loop import Trainer
    from landuse.training.observer import Observers
    from landuse.training.signals import stopping_after_a_step

    folder, observers = call.output_dir, Observers()
    runtime = build_runtime(
        config.trainer.device,
        config.hardware,
        model,
        config.trainer.deterministic,
        min(image_sizes(config.augment, pack.image_size)),
    )
    provenance = collect(config, pack, runtime, call.command_line)
    provenance["hardware"]["processes"] = group.size
    if group.size > 1:
        log.info("processes: %d, each with its share of every batch", group.size)
    if check is not None:
        check(provenance)
    trainer = Trainer(config, runtime.place(model), pack, runtime, folder / "checkpoints", observers, group)
    _resume(trainer, config, folder, provenance)
    home = Path(group.first(lambda: str(folder.resolve())))  # the others were not told where the run is
    if not group.is_main:
        if home.is_dir():  # not on another machine with a disk of its own
            logs.to_file(home / f"train.rank{Place.find().rank}.log")
        with stopping_after_a_step(trainer):
            trainer.fit()
        return trainer.state.best
    provenance["resumed_from"] = resumed_from(config, folder, trainer.state)
    # A mistake up to here has left the folder as it was.
    write_json(folder / "provenance.json", provenance)  # first: killed in between, it still tells where this began
    runs.create(folder, config)
    logs.to_file(folder / "train.log")
    if call.command == "train" and not is_trial():
        runs.point_latest(Path(config.outputs), folder)
    with mirroring(config, folder, call.command, is_new=trainer.state.global_step == 0):
        return _fit(trainer, observers, config, pack, runtime, call)


def _fit(
    trainer: "Trainer", observers: "Observers", config: Config, pack: "Pack", runtime: "Runtime", call: Call
) -> dict[str, Any]:
    """Train, and leave behind what a run folder has, however it ends."""
    from landuse.tracking.console import Console
    from landuse.tracking.metrics_file import MetricsFile
    from landuse.training.profile import profiled
    from landuse.training.signals import stopping_after_a_step

    folder = call.output_dir
    num_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    log.info("%s with %s parameters, %s", config.model.name, f"{num_parameters:,}", _shown_data(pack))
    history = MetricsFile(folder / "metrics.jsonl", trainer.state.epoch)
    console = Console(config.trainer.epochs)
    observers.add(history, console)
    if is_trial():
        observers.add(PruningObserver(config.trainer.monitor, config.trainer.epochs))  # last: others have the epoch
    status, started = "failed", time.perf_counter()
    try:
        with console, stopping_after_a_step(trainer), profiled(config.trainer.profile, folder / "profile"):
            trainer.fit()
        _export(config, pack, trainer, runtime, folder)
        status = "completed"
    except (Interrupted, KeyboardInterrupt):
        status = "interrupted"
        _say_how_to_continue(folder, call)
        raise
    except PrunedError as reason:
        status = "pruned"
        log.info("%s", reason)
        raise
    except (MemoryError, RuntimeError) as error:
        traceback.clear_frames(error.__traceback__)  # where memory did not suffice, there is some now for what follows
        raise
    finally:
        summary = _summary(trainer, history.records(), status, num_parameters, time.perf_counter() - started)
        summary |= {"data_fingerprint": pack.data_fingerprint, "split_fingerprint": pack.split_fingerprint}
        summary["num_images"] = pack.num_images
        write_json(folder / "summary.json", summary)
    _show(summary, folder, config.model, config.tracking.mode, call)
    if trainer.stop_signal is not None and call.is_multirun:  # it came in the last step; a sweep would just go on
        raise Interrupted(trainer.stop_signal, f"Interrupted after {_shown(folder)} was complete.")
    return summary


def _say_how_to_continue(folder: Path, call: Call) -> None:
    if is_trial():  # the sweep says so itself
        return
    key, where = ("hydra.sweep.dir", folder.parent) if call.is_multirun else ("hydra.run.dir", folder)
    place = typed(key, _shown(where))
    log.info("continue    the same command%s", f" with {place} trainer.resume=auto" if call.command == "train" else "")


def _initial_model(config: Config, pack: "Pack") -> "nn.Module":
    from landuse.data.augment import image_sizes
    from landuse.models.head import freeze_backbone
    from landuse.models.registry import build_model, check_output
    from landuse.models.weights import load_weights
    from landuse.training.seed import seed_torch

    seed_torch(config.seed, "initialisation")
    num_classes = len(pack.classes)
    model = build_model(config.model, num_classes, pack.image_size)
    for size in image_sizes(config.augment, pack.image_size) - {pack.image_size}:  # which build_model has looked at
        check_output(model, config.model, num_classes, size)
    if config.model.weights is not None:
        load_weights(model, config.model.weights, num_classes, config.model.name)
    if config.model.freeze_backbone:
        freeze_backbone(model, num_classes)
    return model


def _resume(trainer: "Trainer", config: Config, folder: Path, provenance: dict[str, Any]) -> None:
    """Go on from the checkpoint that ``trainer.resume`` means, if any; another run's epochs so far come along."""
    from landuse.tracking.comparison import machine
    from landuse.tracking.provenance import read

    path = trainer.group.first(lambda: _checkpoint_of(trainer, config, folder))
    if path is None:
        return
    trainer.restore(path)
    log.info("resumed from %s at epoch %d, step %d", path, trainer.state.epoch + 1, trainer.state.step)
    run = path.parent.parent
    if (run / "config.yaml").is_file() and (changed := runs.differences(run, config)):
        log.warning("resumed under another configuration (%s): not what an uninterrupted run would give", changed)
    if different := "; ".join(map(str, machine(read(run), provenance))):
        log.warning("resumed where not all is as it was (%s): only near to an uninterrupted run", different)
    if trainer.group.is_main and (run / "metrics.jsonl").is_file() and run.resolve() != folder.resolve():
        shutil.copyfile(run / "metrics.jsonl", folder / "metrics.jsonl")


def _checkpoint_of(trainer: "Trainer", config: Config, folder: Path) -> Path | None:
    """The checkpoint to go on from; of ``unfinished`` without one the folder is cleared."""
    from landuse.tracking import metrics_file
    from landuse.training import checkpoint

    resume = config.trainer.resume
    if resume == "never":
        return None
    path = checkpoint.find(folder if resume in ("auto", "unfinished") else Path(resume))
    if resume == "unfinished" and not (runs.is_of(folder, config) and trainer.has_steps_left(path)):
        runs.clear(folder)
        return None
    earlier = path.parent.parent / "metrics.jsonl"
    num_epochs = len(metrics_file.read(earlier)) if earlier.is_file() else 0  # damage is found before files change
    if resume == "auto" and not path.is_file():
        if num_epochs > 1:  # one: killed before its checkpoint was there, so it begins anew
            raise UserError(
                f"{folder} holds {num_epochs} epochs but no checkpoint from which they could go on: choose another "
                "run_name=NAME, or remove the folder."
            )
        return None
    return path


def _export(config: Config, pack: "Pack", trainer: "Trainer", runtime: "Runtime", folder: Path) -> None:
    from landuse.models.export import save_model
    from landuse.monitoring import REFERENCE_FILE, reference
    from landuse.training.reference import reference_of

    model = trainer.load_best()
    extra = {
        "data": pack.name,
        "data_fingerprint": pack.data_fingerprint,
        "split_fingerprint": pack.split_fingerprint,
        "gsd": config.data.gsd,
        "tile_size": config.data.tile_size or pack.tile_size,
    }
    save_model(folder / "model", model, config.model, pack.classes, pack.image_size, pack.mean, pack.std, extra)
    drift = reference_of(model, pack, runtime, config.trainer.batch_size)
    path = folder / "model" / REFERENCE_FILE
    if drift is None:
        path.unlink(missing_ok=True)  # of weights before a resume
    else:
        reference.save(path, drift)


def _summary(
    trainer: "Trainer", records: list[dict[str, Any]], status: str, num_parameters: int, seconds: float
) -> dict[str, Any]:
    rates = [record["images_per_second"] for record in records]
    return {
        "status": status,
        "best_epoch": trainer.state.best_epoch,
        "val/accuracy": trainer.state.best.get("val/accuracy"),
        "val/loss": trainer.state.best.get("val/loss"),
        "epochs": len(records),
        "parameters": num_parameters,
        "train_seconds": trainer.state.train_seconds + trainer.state.epoch_seconds,
        "wall_seconds": seconds,
        "images_per_second": sorted(rates)[len(rates) // 2] if rates else None,  # the median epoch's
    }


def _show(summary: dict[str, Any], folder: Path, model: ModelConfig, tracking: str, call: Call) -> None:
    from landuse.evaluation.report import report_run

    best = (summary["best_epoch"] + 1, summary["val/accuracy"], summary["val/loss"])
    log.info("best epoch %d: val accuracy %.4f, val loss %.4f", *best)
    log.info("run folder  %s", _shown(folder))
    log.info("report      %s", _shown(report_run(folder)))
    if call.command != "train" or is_trial():  # which have a next step of their own
        return
    custom = f" model=custom model.target={model.target}" if isinstance(model, CustomModelConfig) else ""
    sent = "" if tracking == "off" else f" tracking={tracking}"
    log.info("next        %s -m landuse.evaluate %s%s%s", _shown_python(), typed("run", _shown(folder)), custom, sent)


def _complete_report(folder: Path) -> None:
    """Write the report of a finished run that was killed just before."""
    from landuse.evaluation.report import report_run

    if not (folder / "report.html").is_file():
        log.info("report      %s", _shown(report_run(folder)))


def _shown(path: Path) -> str:
    """Relative where it lies below the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _shown_python() -> str:
    """What a person types to get this interpreter: a virtual environment need not be active."""
    return "python" if shutil.which("python") == sys.executable else _shown(Path(sys.executable))


def _shown_data(pack: "Pack") -> str:
    counts = ", ".join(f"{count} {name}" for name, count in pack.num_images.items())
    return f"{pack.name}: {len(pack.classes)} classes, {pack.image_size} px, {counts}"
