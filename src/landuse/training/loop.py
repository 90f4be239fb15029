"""The training loop."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from landuse.config.schema import AugmentConfig, Config
from landuse.data.augment import Augmentation, Mixing
from landuse.data.pack import Pack, PackedSplit
from landuse.errors import Interrupted, UserError
from landuse.evaluation.metrics import summarise
from landuse.models.head import set_train_mode
from landuse.models.weights import has_new_infinities
from landuse.training import checkpoint
from landuse.training.batches import Batch, Images, StepPlan, TrainingBatches, epoch_plan
from landuse.training.checkpoint import TrainState
from landuse.training.device import Runtime
from landuse.training.ema import build_average
from landuse.training.gradient import GradientNorm, clipped
from landuse.training.group import ALONE, Group
from landuse.training.inference import Predictor
from landuse.training.loss import Criterion, RunningLoss, diverged
from landuse.training.observer import Observer
from landuse.training.optim import build_optimizer
from landuse.training.profile import STEP, part
from landuse.training.schedule import Schedule
from landuse.training.seed import seed_torch

log = logging.getLogger(__name__)

NORM_EVERY = 50  # steps between those whose gradient is measured, the first of an epoch among them
GO_ON, SAVE, LEAVE = range(3)  # of several wishes the largest is followed


class Trainer:
    """Trains one model. ``fit`` reads top down: epochs, steps, forward, backward, update, validate, save."""

    def __init__(
        self, config: Config, model: nn.Module, pack: Pack, runtime: Runtime, folder: Path, observer: Observer,
        group: Group = ALONE,
    ) -> None:  # fmt: skip
        """
        Args:
            model: on the device already; its trainable parameters are those that require gradients.
            folder: for the checkpoints.
            group: the processes that train together; the first alone writes checkpoints.
        """
        trainer = config.trainer
        train, val = _splits(pack, trainer.overfit_batches, trainer.batch_size)
        self._config, self._runtime, self._folder, self._observer = config, runtime, folder, observer
        self.group = group
        self._classes, self._val_labels = pack.classes, val.labels
        self.model, forward = group.join(model, config.hardware.sync_batch_norm)
        # Batches have two sizes. Left to itself, torch compiles the second for any size, whose kernels round otherwise,
        # and which is the second depends on where a run went on. Growing images have too many sizes for one graph each.
        any_size = None if config.augment.start_size else False
        self._forward = torch.compile(forward, dynamic=any_size) if runtime.compile else forward
        self._train_images, self._val_images = Images(train, runtime), Images(val, runtime)
        augment = AugmentConfig() if trainer.overfit_batches else config.augment
        augmentation = Augmentation(augment, pack.mean, pack.std, runtime.device)
        self._batches = TrainingBatches(
            self._train_images, augmentation, Mixing(augment), group, config.seed, trainer.epochs
        )
        self._criterion = Criterion(trainer, train.labels, len(pack.classes), runtime.device)
        self._optimizer = build_optimizer(self.model, trainer)
        self._schedule = Schedule(trainer)
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.average = build_average(self.model, trainer.ema)
        self._predictor = Predictor(runtime, pack.mean, pack.std, trainer.batch_size, group=group)
        self._identity = _identity(config, pack)
        self.state = TrainState()
        self.stop_signal: int | None = None  # set by a signal handler; obeyed after the step under way
        self._epoch_began = self._saved_at = time.monotonic()

    def fit(self) -> None:
        """Train to the last epoch, or until early stopping.

        Raises:
            NonFiniteLossError: before anything is saved that it could have spoilt.
            Interrupted: after a checkpoint, when ``stop_signal`` was set. It is obeyed after the step under way; after
                the last step of an epoch, once that epoch is validated and saved; after the very last step not at
                all, for nothing is left to interrupt.
        """
        self._saved_at = time.monotonic()
        while not self._is_done(self.state):
            self._epoch_began = time.monotonic() - self.state.epoch_seconds  # those before an interruption
            train_metrics = self._train_epoch()
            val_metrics = self._validate()
            self._end_epoch(train_metrics, val_metrics)
            if not self._is_done(self.state) and self.group.agree(LEAVE if self.stop_signal else GO_ON) == LEAVE:
                self._leave()

    def _train_epoch(self) -> dict[str, float | None]:
        config, state = self._config.trainer, self.state
        plan = epoch_plan(
            self._train_images.num_images, config.batch_size, config.accumulate, self._config.seed, state.epoch,
            config.limit_train_batches,
        )  # fmt: skip
        set_train_mode(self.model)
        running = RunningLoss(self._runtime, state.loss_sum, state.num_images, self.group)
        norms = GradientNorm(self._runtime.device, state.norm_sum, state.num_norms)
        started, images_before = time.perf_counter(), state.num_images
        lr = self._schedule.lr(state.epoch)
        with closing(self._batches.of_epoch(state.epoch, plan, state.step)) as steps:
            for step, batches in steps:
                with part(STEP):
                    lr = self._schedule.lr(state.epoch + step.index / len(plan))
                    where = f"epoch {state.epoch + 1}, step {step.index + 1}, lr {lr:.3g}, {step.num_images} images"
                    loss = self._forward_backward(step, batches)
                    running.add(loss, step.num_images, where)
                    with part("optimiser"):
                        self._update(lr, norms if step.index % NORM_EVERY == 0 else None)
                    state.step, state.num_images = step.index + 1, state.num_images + step.num_images
                    with part("logging"):
                        wish = self._look_around(len(plan), running, norms, where)
                if wish:
                    self._save_amid(where)
                if wish == LEAVE:
                    self._leave()
        state.loss_sum, num_images = running.look(f"epoch {state.epoch + 1}")
        norm_sum, num_norms = norms.look()
        self._require_finite_weights(f"after epoch {state.epoch + 1}")
        seconds = time.perf_counter() - started
        return {
            "train/loss": state.loss_sum / num_images,
            "train/grad_norm": norm_sum / num_norms if num_norms else None,  # none where each overflowed
            "lr": lr,
            "images_per_second": (num_images - images_before) / seconds,
        }

    def _look_around(self, num_steps: int, running: RunningLoss, norms: GradientNorm, where: str) -> int:
        """After a step: tell the observer, look at the loss now and then; what all processes do next."""
        state = self.state
        self._observer.step(state.epoch, state.step, num_steps, state.num_images)
        wish = self._wish() if state.step < num_steps else GO_ON  # else the epoch's end is at hand
        if wish or state.step % self._config.trainer.log_every == 0:
            state.loss_sum, _ = running.look(where)  # synchronises; here alone, unless it saves
            log.debug("%s: mean loss so far %.4f", where, state.loss_sum / state.num_images)
        if wish:
            state.norm_sum, state.num_norms = norms.look()
        return wish

    def _forward_backward(self, step: StepPlan, batches: Iterator[Batch]) -> torch.Tensor:
        """Gradients of the mean loss over the step's images, however many forward passes they take."""
        # For dropout and stochastic depth.
        seed_torch(self._config.seed, "model", self.state.epoch, step.index, *self.group.stream)
        total = torch.zeros((), device=self._runtime.device)
        for number, (inputs, labels_a, labels_b, weight) in enumerate(batches, start=1):
            with self.group.holding_gradients(self._forward) if number < len(step.batches) else nullcontext():
                with part("forward"):
                    with self._runtime.autocast():
                        logits = self._forward(inputs)
                    loss = self._criterion(logits, labels_a, labels_b, weight) / step.num_images
                with part("backward"):  # the gradients of several processes are averaged, and ours are of sums
                    self._scaler.scale(loss * self.group.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _update(self, lr: float, norms: GradientNorm | None) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        clip_norm = self._config.trainer.clip_norm
        if clip_norm is not None or norms is not None:
            self._scaler.unscale_(self._optimizer)  # type: ignore[arg-type]
            norm = clipped(self.model.parameters(), clip_norm)
            if norms is not None:
                norms.add(norm)
        self._scaler.step(self._optimizer)  # type: ignore[arg-type]
        self._scaler.update()
        self._optimizer.zero_grad()
        self.average.update(self.state.global_step)
        self.state.global_step += 1

    def _save_amid(self, where: str) -> None:
        """Between two steps of an epoch. SYNCHRONISES."""
        self._require_finite_weights(where)
        self.state.epoch_seconds = time.monotonic() - self._epoch_began
        self.save("last")
        self._saved_at = time.monotonic()

    def _require_finite_weights(self, where: str) -> None:
        """Before anything is saved: a finite loss says nothing of the update that follows it. SYNCHRONISES."""
        if not torch.stack([parameter.isfinite().all() for parameter in self.model.parameters()]).all():
            raise diverged("The weights are", where, self._runtime.precision)

    def _validate(self) -> dict[str, float]:
        self.group.same_buffers(self.average.model)
        probabilities = self._predictor.probabilities(
            self.average.model, self._val_images, self._config.trainer.limit_val_batches
        )
        if not np.isfinite(probabilities).all():  # finite weights can be as large as to overflow
            raise diverged("The predictions are", f"after epoch {self.state.epoch + 1}", self._runtime.precision)
        summary = summarise(probabilities, self._val_labels[: len(probabilities)], self._classes)
        return {"val/loss": summary["loss"], "val/accuracy": summary["accuracy"]}

    def _wish(self) -> int:
        """What all processes do after this step: go on, save for so many steps or minutes have passed, or leave."""
        config, wish = self._config.trainer, GO_ON
        if config.checkpoint_steps is not None and self.state.global_step % config.checkpoint_steps == 0:
            wish = SAVE
        minutes = (time.monotonic() - self._saved_at) / 60
        if config.checkpoint_minutes is not None and minutes >= config.checkpoint_minutes:
            wish = SAVE
        return self.group.agree(LEAVE if self.stop_signal is not None else wish)

    def _end_epoch(self, train_metrics: dict[str, float | None], val_metrics: dict[str, float]) -> None:
        state, epoch = self.state, self.state.epoch
        seconds = time.monotonic() - self._epoch_began
        improved = self._is_better(val_metrics)
        if improved:
            state.best_epoch, state.best = epoch, val_metrics
        state.stale_epochs = 0 if improved else state.stale_epochs + 1
        self._schedule.end_epoch(improved)
        state.train_seconds += seconds
        record = {"epoch": epoch, "step": state.global_step, **train_metrics, **val_metrics, "seconds": seconds}
        self.state = replace(
            state, epoch=epoch + 1, step=0, loss_sum=0.0, num_images=0, norm_sum=0.0, num_norms=0, epoch_seconds=0.0
        )
        self._observer.epoch(record)
        self._saved_at = time.monotonic()
        if improved:  # best first: were it last, a kill in between would leave a state that claims a best it lacks
            self.save("best")
            if self.group.is_main:
                checkpoint.copy(self._path("best"), self._path("last"))
        else:
            self.save("last")

    def _is_better(self, metrics: dict[str, float]) -> bool:
        monitor = self._config.trainer.monitor
        if monitor not in self.state.best:
            return True
        if monitor == "val/loss":
            return metrics[monitor] < self.state.best[monitor]
        return metrics[monitor] > self.state.best[monitor]

    def _is_done(self, state: TrainState) -> bool:
        config = self._config.trainer
        is_stale = config.early_stopping is not None and state.stale_epochs >= config.early_stopping
        return state.epoch >= config.epochs or is_stale

    def _leave(self) -> None:
        number = self.stop_signal or signal.SIGTERM  # which another process has had
        where = f"in epoch {self.state.epoch + 1} after step {self.state.step}"
        raise Interrupted(number, f"Interrupted {where}; {self._path('last')} has it all.")

    def save(self, name: str) -> None:
        """Write ``<folder>/<name>.pt``; of several processes the first does."""
        if not self.group.is_main:
            return
        parts = {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.average.model is not self.model else None,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "schedule": {"decays": self._schedule.decays, "stale_epochs": self._schedule.stale_epochs},
        }
        checkpoint.save(self._path(name), self.state, parts, self._identity)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint, of this run or of another; that one's files come along.

        Raises:
            UserError: it cannot be read, does not fit, or has neither steps left nor a best epoch; nothing is written.
        """
        self.state, parts = checkpoint.load(path, self._identity)
        best = self._find_best(path)
        if self.state.best_epoch is not None and best is None:
            log.warning("There is no checkpoint of the best epoch of %s: from here on the best counts anew", path)
            self.state.best_epoch, self.state.best, self.state.stale_epochs = None, {}, 0
        if self.state.best_epoch is None and self._is_done(self.state):
            raise UserError(
                f"The checkpoint {path} has no steps left: raise trainer.epochs={self._config.trainer.epochs}."
            )
        try:
            self._take(parts)
        except Exception as error:  # a stranger's checkpoint can be right in form and hold anything
            raise UserError(
                f"The checkpoint {path} does not fit this training ({str(error).partition(chr(10))[0].rstrip('.:')}): "
                "resume from another or start anew."
            ) from error
        self.group.wait()  # all have read what the first may now replace
        if self.group.is_main:
            self._take_over(path, best)

    def _take(self, parts: dict[str, Any]) -> None:
        self.model.load_state_dict(parts["model"])
        if parts["average"] is not None:
            self.average.model.load_state_dict(parts["average"])
        # Its settings (weight decay and so on) are this run's, not the checkpoint's.
        groups = self._optimizer.state_dict()["param_groups"]
        if [group["params"] for group in parts["optimizer"]["param_groups"]] != [group["params"] for group in groups]:
            raise ValueError("its optimiser has other groups of parameters")
        kept = [value for state in parts["optimizer"]["state"].values() for value in state.values()]
        if not all(isinstance(value, torch.Tensor | int | float) for value in kept):
            raise ValueError("what the optimiser kept is no number and no tensor")  # torch's would walk through it all
        self._optimizer.load_state_dict({"state": parts["optimizer"]["state"], "param_groups": groups})
        if parts["scaler"]:  # empty unless the checkpoint comes from fp16
            self._scaler.load_state_dict(parts["scaler"])
        self._schedule.restore(parts["schedule"]["decays"], parts["schedule"]["stale_epochs"])
        self._require_finite_weights("in the checkpoint")
        needed = set() if self._config.trainer.optimizer == "sgd" else {"step", "exp_avg", "exp_avg_sq"}
        for parameter, state in self._optimizer.state.items():
            for name in needed | state.keys():
                value = torch.as_tensor(state[name])
                shape = parameter.shape if name != "step" else ()
                if value.shape != shape or not value.isfinite().all():
                    raise ValueError(f"{name} of the optimiser has another shape or is not finite")
                if name in ("step", "exp_avg_sq") and (value < 0).any():  # a count, and a mean of squares
                    raise ValueError(f"{name} of the optimiser is negative")

    def _take_over(self, path: Path, best: Path | None) -> None:
        """So that a kill before the first own checkpoint loses nothing, and a damaged one is never the one before."""
        if best is not None and best != self._path("best"):
            checkpoint.copy(best, self._path("best"))
        if path != self._path("last"):
            self._path("last").unlink(missing_ok=True)
            checkpoint.copy(path, self._path("last"))

    def _find_best(self, path: Path) -> Path | None:
        """The checkpoint of the best epoch so far: best.pt, unless that is missing, damaged or of a later best."""
        best_epoch = self.state.best_epoch
        for candidate in (path.with_name(checkpoint.BEST), path, path.with_name(checkpoint.PREVIOUS)):
            with suppress(UserError):
                state, parts = checkpoint.load(candidate, self._identity)
                is_best = state.step == 0 and state.best_epoch == best_epoch == state.epoch - 1
                if is_best and self._fits(parts.get("average") or parts.get("model")):
                    return candidate
        return None

    def _fits(self, weights: Any) -> bool:
        own = self.average.model.state_dict()
        return (
            isinstance(weights, dict)
            and weights.keys() == own.keys()
            and all(
                isinstance(tensor, torch.Tensor)
                and tensor.shape == own[name].shape
                and not has_new_infinities(tensor, own[name])
                for name, tensor in weights.items()
            )
        )

    def has_steps_left(self, path: Path) -> bool:
        """Whether there is a checkpoint from which this training can go on, and it has not come to its end."""
        try:
            state, _ = checkpoint.load(path, self._identity)
        except UserError:
            return False
        return not self._is_done(state)

    def load_best(self) -> nn.Module:
        """The weights of the best epoch, in the model that is validated and exported."""
        state, parts = checkpoint.load(self._path("best"), self._identity)
        if state.best_epoch != self.state.best_epoch:
            raise RuntimeError(f"{self._path('best')} is of epoch {state.best_epoch}, not {self.state.best_epoch}")
        self.average.model.load_state_dict(parts["average"] or parts["model"])
        return self.average.model

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.pt"


def _identity(config: Config, pack: Pack) -> dict[str, Any]:
    """What a checkpoint and the run that goes on from it must agree in: else weights or batches would not fit."""
    architecture = {k: v for k, v in asdict(config.model).items() if k not in ("weights", "freeze_backbone")}
    trainer = config.trainer
    return {
        "model": " ".join(f"{key}={value}" for key, value in architecture.items()),
        "model.freeze_backbone": config.model.freeze_backbone,
        "data_fingerprint": pack.data_fingerprint,
        "seed": config.seed,
        "trainer.optimizer": trainer.optimizer,
        "trainer.batch_size": trainer.batch_size,
        "trainer.accumulate": trainer.accumulate,
        "averaged weights (trainer.ema)": trainer.ema is not None,
    }


def _splits(pack: Pack, overfit_batches: int | None, batch_size: int) -> tuple[PackedSplit, PackedSplit]:
    """Train and val; the same few training batches for both when overfitting is asked for."""
    train = pack.split("train")
    if overfit_batches is None:
        return train, pack.split("val")
    n = overfit_batches * batch_size
    few = replace(train, images=train.images[:n], labels=train.labels[:n], paths=train.paths[:n])
    return few, few
