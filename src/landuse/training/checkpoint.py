"""Checkpoints: all that a training needs to go on as if it had never stopped."""

import shutil
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from landuse.errors import UserError
from landuse.files import replacing

FORMAT = 1


@dataclass
class TrainState:
    """Where a training stands; everything random follows from (seed, epoch, step)."""

    epoch: int = 0  # the epoch under way, from 0
    step: int = 0  # optimiser steps done within it
    global_step: int = 0
    loss_sum: float = 0.0  # over the images of the epoch under way
    num_images: int = 0
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


def copy(source: Path, target: Path) -> None:
    """A second file, not a link: damage to one leaves the other whole."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def load(path: Path, identity: dict[str, Any]) -> tuple[TrainState, dict[str, Any]]:
    """Read a checkpoint; nothing in it is executed (``weights_only``).

    Returns:
        The state and the parts as given to :func:`save`.

    Raises:
        UserError: missing, damaged, or made by a training with which this one cannot agree.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums that its files carry
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT:
            raise UserError(
                f"The checkpoint {path} was written by another version of landuse: resume with that version."
            )
        state, stored = TrainState(**content.pop("state")), content.pop("identity")
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


def find(path: Path) -> Path:
    """The checkpoint that ``trainer.resume=PATH`` means: the file itself, or a run folder's last.

    An epoch that is the best so far is saved as such first; killed then, a first epoch leaves no last, but the same.
    """
    if not path.is_dir():
        return path
    last, best = (path / "checkpoints" / name for name in ("last.pt", "best.pt"))
    return best if best.is_file() and not last.is_file() else last
