"""Trains the cases of test_distributed.py: there in one process; by torchrun in two, all cases in one pair of them."""

import copy
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landuse.config.processes import Place
from landuse.config.schema import HardwareConfig
from landuse.data.pack import Pack
from landuse.errors import Interrupted
from landuse.models.registry import build_model
from landuse.training.device import build_runtime
from landuse.training.distributed import meeting
from landuse.training.group import ALONE, Group
from landuse.training.loop import Trainer
from landuse.training.seed import seed_torch

from .conftest import EVERYTHING, Recorder, tiny_config

SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05}
CASES: dict[str, dict[str, Any]] = {
    "plain": SGD,
    "no batch norm": {**SGD, "batch_norm": False},
    "everything": {**SGD, **EVERYTHING},
    "everything, no batch norm": {**SGD, **EVERYTHING, "batch_norm": False},
    "bf16": {**SGD, "hardware": HardwareConfig(precision="bf16")},
    "shares": {**SGD, "hardware": HardwareConfig(precision="fp32", sync_batch_norm=False)},
}


def train(
    pack: Pack, folder: Path, group: Group = ALONE, *, batch_norm: bool = True, resume: Path | None = None,
    stop_at: tuple[int, int] | None = None, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Three epochs of 36 images in batches of 8; what came of it."""
    config = tiny_config(**copy.deepcopy(settings))
    seed_torch(0, "initialisation")
    model = build_model(config.model, len(pack.classes), pack.image_size)
    if not batch_norm:
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, nn.Identity())
    recorder = Recorder()
    runtime = build_runtime("cpu", config.hardware, model, smallest_px=pack.image_size)
    trainer = Trainer(config, runtime.place(model), pack, runtime, folder, recorder, group)
    if stop_at is not None and group.rank == group.size - 1:  # the signal comes to the last process alone

        def stop(epoch: int, step: int, num_steps: int, num_images: int) -> None:
            trainer.stop_signal = signal.SIGTERM if (epoch, step) >= stop_at else None

        recorder.step = stop  # type: ignore[method-assign]
    if resume is not None:
        trainer.restore(resume)
    try:
        trainer.fit()
    except Interrupted:
        assert stop_at is not None
    weights = {name: tensor.clone() for name, tensor in trainer.average.model.state_dict().items()}
    return {"records": recorder.records, "weights": weights, "state": vars(trainer.state)}


def main(pack_file: str, results: str) -> None:
    torch.set_num_threads(1)
    pack: Pack = pickle.loads(Path(pack_file).read_bytes())
    folder, place = Path(results), Place.find()
    with meeting(place, "cpu") as group:
        outcomes = {name: train(pack, folder / name, group, **case) for name, case in CASES.items()}
        everything = CASES["everything"]
        outcomes["stopped"] = train(pack, folder / "stopped", group, stop_at=(1, 2), **everything)
        last = folder / "stopped/last.pt"
        outcomes["resumed"] = train(pack, folder / "resumed", group, resume=last, **everything)
        one = folder / "stopped by one/last.pt"
        outcomes["one, then two"] = train(pack, folder / "one, then two", group, resume=one, **everything)
        torch.save(outcomes, folder / f"outcomes.{place.rank}")


if __name__ == "__main__":
    main(*sys.argv[1:])
