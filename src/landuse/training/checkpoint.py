"""Checkpoints: all that a training needs to go on as if it had never stopped.

checkpoints/last.pt       the newest, at the end of an epoch or within one
checkpoints/previous.pt   the one before, should the newest turn out to be damaged
checkpoints/best.pt       the best epoch so far
"""

import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from landuse.errors import UserError
from landuse.files import rename, replacing
from landuse.models.torch_files import read_torch_file

log = logging.getLogger(__name__)

FORMAT = 1
METRICS = {"val/accuracy", "val/loss"}  # of the best epoch
BEYOND_MEASURE = 1e100  # of seconds and losses
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


@dataclass
class TrainState:
    """Where a training stands; everything random follows from (seed, epoch, step)."""

    epoch: int = 0  # the epoch under way, from 0
    step: int = 0  # optimiser steps done within it
    global_step: int = 0
    loss_sum: float = 0.0  # over the images of the epoch under way
    num_images: int = 0
    norm_sum: float = 0.0  # of the gradient, over those steps of the epoch under way at which it was measured
    num_norms: int = 0  # such steps
    train_seconds: float = 0.0  # spent in all epochs
    epoch_seconds: float = 0.0  # spent in the epoch under way
    best_epoch: int | None = None
    best: dict[str, float] = field(default_factory=dict)  # the metrics of the best epoch
    stale_epochs: int = 0  # since the best; for early stopping


def save(path: Path, state: TrainState, parts: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write a checkpoint atomically: the name holds either the version before or this one, whole.

    Args:
        parts: state dictionaries by name (tensors and plain values only).
        identity: what a resumed run must agree with, such as the data's fingerprint.
    """
    with replacing(path) as temporary:
        torch.save({"format": FORMAT, "state": asdict(state), "identity": identity, **parts}, temporary)
        _keep_previous(path)


def copy(source: Path, target: Path) -> None:
    """A second file, not a link: damage to one leaves the other whole."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        _keep_previous(target)


def _keep_previous(path: Path) -> None:
    """Before a newer one takes its place. Killed here, the folder has no last.pt, and :func:`find` finds this one."""
    if path.name == LAST and path.is_file():
        rename(path, path.with_name(PREVIOUS))


def load(path: Path, identity: dict[str, Any]) -> tuple[TrainState, dict[str, Any]]:
    """Read a checkpoint; nothing in it is executed or imported.

    Returns:
        The state and the parts as given to :func:`save`.

    Raises:
        UserError: missing, damaged, or made by a training with which this one cannot agree.
    """
    try:
        content = read_torch_file(path)
        if content.pop("format") != FORMAT:
            raise UserError(
                f"The checkpoint {path} was written by another version of landuse: resume with that version."
            )
        state, stored = TrainState(**content.pop("state")), content.pop("identity")
        _require_plain(state, stored)
    except FileNotFoundError as error:
        raise UserError(f"There is no checkpoint {path} to resume from; use trainer.resume=never.") from error
    except UserError:
        raise
    except Exception as error:  # a damaged file can make the reader raise anything
        raise UserError(
            f"The checkpoint {path} is damaged or is no checkpoint: resume from another or start anew."
        ) from error
    for key, value in identity.items():
        if stored.get(key) != value:
            raise UserError(
                f"The checkpoint {path} was made with {key}={stored.get(key)}, this run has {key}={value}: "
                "they must agree."
            )
    return state, content


def _require_plain(state: TrainState, identity: dict[str, Any]) -> None:
    """A checkpoint may come from a stranger: what is counted, compared and shown must be numbers and texts."""
    counts = (
        state.epoch, state.step, state.global_step, state.num_images, state.num_norms, state.stale_epochs,
        state.best_epoch or 0,
    )  # fmt: skip
    sums = (state.loss_sum, state.norm_sum, state.train_seconds, state.epoch_seconds, *state.best.values())
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("its state is none")
    if not all(isinstance(value, int | float) and 0 <= value < BEYOND_MEASURE for value in sums):
        raise ValueError("its state is none")
    if (state.step == 0) != (state.num_images == 0) or (state.best_epoch is None) != (not state.best):
        raise ValueError("its state contradicts itself")
    if state.best and not state.best.keys() >= METRICS:
        raise ValueError("its best epoch has no metrics")
    if not all(value is None or isinstance(value, str | int | float) for value in identity.values()):
        raise ValueError("its identity is none")


def find(path: Path) -> Path:
    """The checkpoint that ``trainer.resume=PATH`` means: the file itself, or the furthest whole one of a run folder.

    An epoch that is the best so far is saved as such first, so after a kill best.pt can be further than last.pt.

    Returns:
        Where there is none, or none that is whole: the name of last.pt, of which :func:`load` says what is wrong.
    """
    if not path.is_dir():
        return path
    folder, furthest, reached = path / "checkpoints", path / "checkpoints" / LAST, (-1, -1)
    damaged = []
    for candidate in (folder / name for name in (LAST, PREVIOUS, BEST)):
        if not candidate.is_file():
            continue
        try:
            state, _ = load(candidate, {})
        except UserError:
            damaged.append(candidate)
            continue
        if (state.epoch, state.step) > reached:
            furthest, reached = candidate, (state.epoch, state.step)
    if damaged and reached >= (0, 0):
        log.warning(
            "%s cannot be used (damaged, or of another version): going on from %s, epoch %d, step %d",
            " and ".join(map(str, damaged)), furthest, reached[0] + 1, reached[1],
        )  # fmt: skip
    return furthest
