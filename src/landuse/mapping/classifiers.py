"""What answers for windows: the exported graph on the CPU, or the network it was made of on a GPU."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landuse.config.schema import CustomModelConfig
from landuse.errors import UserError
from landuse.mapping.plan import CHUNK_COLUMNS, CHUNK_ROWS
from landuse.models.description import read_description
from landuse.serving.artifact import ServedModel, read_served
from landuse.serving.engine import Engine

log = logging.getLogger(__name__)

CPU_BATCH = 32
GPU_BATCH = CHUNK_ROWS * CHUNK_COLUMNS  # a whole chunk: to tell a GPU of a batch takes as long for a small one


class Described:
    """A model whose answers are all there already."""

    device, batch_size = "cpu", CPU_BATCH

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: an exported folder.

        Raises:
            UserError: it is damaged.
        """
        self.model, _ = read_served(folder)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Not here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"{len(images)} windows were asked about that should be there already")


class OnnxClassifier:
    """The graph in onnxruntime; each call computes in its caller's thread."""

    device = "cpu"

    def __init__(self, folder: Path, batch_size: int | None = None) -> None:
        """
        Args:
            folder: an exported folder.
            batch_size: the largest batch that it will be asked; None: what suits a CPU.

        Raises:
            UserError: it is damaged.
        """
        self.batch_size = batch_size or CPU_BATCH
        self._engine = Engine(folder, max_batch=self.batch_size)

    @property
    def model(self) -> ServedModel:
        """Its description."""
        return self._engine.model

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, C) of images (N, S, S, 3) uint8 RGB.

        Raises:
            UserError: they are no numbers.
        """
        return self._engine(images).probabilities


class TorchClassifier:
    """The run's network in PyTorch, calibrated as the export is; calls wait for each other, for there is one device."""

    def __init__(
        self, folder: Path, device: str, batch_size: int | None = None, custom: CustomModelConfig | None = None
    ) -> None:
        """
        Args:
            folder: an exported folder inside its run: ``<run>/export/fp32``.
            device: cuda, cuda:N, mps or cpu.
            batch_size: the largest batch that it will be asked; None: what suits a GPU.
            custom: as :func:`landuse.models.export.load_model`.

        Raises:
            UserError: the run's model is not there, is another one, or the export is of another kind than fp32.
        """
        import threading

        import torch

        from landuse.models.export import load_model

        self.model, _ = read_served(folder)
        run = folder.parent.parent
        if self.model.variant != "fp32":
            raise UserError(
                f"variant={self.model.variant} runs on the CPU: give trainer.device=cpu, or leave variant= out."
            )
        if not (run / "model").is_dir():
            raise UserError(
                f"{folder} lies in no run folder, whose model/ a GPU needs: give run=PATH, or trainer.device=cpu."
            )
        loaded = load_model(run, custom)
        if loaded.info["weights_sha256"] != self.model.info.get("source", {}).get("weights_sha256"):
            raise UserError(
                f"{folder} was exported from other weights than {run / 'model'} holds: export the run again."
            )
        self.device, self.batch_size = device, batch_size or GPU_BATCH
        self._torch, self._lock = torch, threading.Lock()
        self._network = loaded.model.to(device)
        self._mean, self._std = (torch.tensor(values, device=device) for values in (loaded.mean, loaded.std))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, C) of images (N, S, S, 3) uint8 RGB.

        Raises:
            UserError: they are no numbers.
        """
        from landuse.data.augment import normalise

        torch = self._torch
        with self._lock, torch.inference_mode():
            placed = torch.from_numpy(images).to(self.device)
            logits = self._network(normalise(placed, self._mean, self._std)).float() / self.model.temperature
            answers: NDArray[np.float32] = logits.softmax(dim=1).cpu().numpy()
        if not np.isfinite(answers).all():
            raise UserError("The model gives what are no numbers: its weights are damaged. Train or export it again.")
        return answers


def open_classifier(
    folder: Path, device: str, batch_size: int | None = None, custom: CustomModelConfig | None = None
) -> OnnxClassifier | TorchClassifier:
    """What answers on this device: ``auto`` takes a GPU where there is one and the run's network is at hand.

    Args:
        folder: an exported folder.
        batch_size: None: what suits the device.
        custom: the user's own class of network; without it ``auto`` has the graph of such a network answer.

    Raises:
        UserError: as the classes here.
    """
    from landuse.config.devices import has_mps, num_cuda_devices

    if device == "auto":
        device = "cuda" if num_cuda_devices() else "mps" if has_mps() else "cpu"
        if device != "cpu" and not _is_network_at_hand(folder, custom):
            log.info("device      cpu: a GPU needs the run beside its fp32 export, and model.target= of an own network")
            device = "cpu"
    if device == "cpu":
        return OnnxClassifier(folder, batch_size)
    return TorchClassifier(folder, device, batch_size, custom)


def _is_network_at_hand(folder: Path, custom: CustomModelConfig | None) -> bool:
    if read_served(folder)[0].variant != "fp32":
        return False
    try:
        described = read_description(folder.parent.parent / "model").config
    except UserError:  # the export lies elsewhere, and what is beside it may be anything
        return False
    return custom is not None or not isinstance(described, CustomModelConfig)
