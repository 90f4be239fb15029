"""Batches of packed images on the device, in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landuse.data.augment import Augmentation, Draws, Mixing
from landuse.data.pack import PackedSplit
from landuse.training.device import Runtime
from landuse.training.group import Group
from landuse.training.seed import generator


@dataclass(frozen=True)
class StepPlan:
    """The images of one optimiser step: one index array per forward pass."""

    index: int  # of the step within the epoch
    batches: list[Tensor]  # each (N,) int64, on the CPU

    @property
    def num_images(self) -> int:
        return sum(len(batch) for batch in self.batches)


class Images:
    """The images of one split, gathered batch by batch from the memory map or from the device's own memory."""

    def __init__(self, split: PackedSplit, runtime: Runtime) -> None:
        self._runtime = runtime
        self.num_images = len(split)
        resident = runtime.fits(split.images.nbytes)
        self._images = split.images
        self._resident = torch.from_numpy(np.array(split.images)).to(runtime.device) if resident else None
        self._labels = torch.from_numpy(split.labels)
        self._device_labels = self._labels.to(runtime.device)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, H, W, 3) uint8 and labels (N,) int64 of the given rows, on the device."""
        if self._resident is not None:
            rows = self._runtime.to_device(_pinned(indices, self._runtime))
            return self._resident[rows], self._device_labels[rows]
        # numpy's fancy indexing copies whole images ten times faster than torch's.
        images = torch.from_numpy(self._images[indices.numpy()])
        to_device = self._runtime.to_device
        return to_device(_pinned(images, self._runtime)), to_device(_pinned(self._labels[indices], self._runtime))


class TrainingBatches:
    """Batches of one split, augmented and mixed; of each batch the share of this process.

    What is drawn is drawn for the whole batch, so that every share is what it would be in one process.
    """

    def __init__(self, images: Images, augmentation: Augmentation, mixing: Mixing, group: Group) -> None:
        self._images, self._augmentation, self._mixing, self._group = images, augmentation, mixing, group

    def gather(
        self, indices: Tensor, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """The share of a batch.

        Args:
            indices: (N,) of the whole batch.
            generator: on the host.
            progress: share of the training that is done, 0..1.

        Returns:
            Normalised inputs (n, 3, S, S), the labels (n,) of both partners, and the first one's weight w, the share of
            its pixels: the loss is ``w * loss(labels_a) + (1 - w) * loss(labels_b)``.
        """
        num_images = len(indices)
        draws, mix = Draws.draw(num_images, generator), self._mixing.draw(num_images, generator, progress)
        own = torch.arange(num_images)[self._group.rows(num_images)]
        needed = own if mix is None else torch.unique(torch.cat([own, mix.partners[own]]))
        if len(needed) < num_images:
            indices, draws = indices[needed], draws.of(needed)
        images, labels = self._images.gather(indices)
        inputs = self._augmentation(images, draws, progress)
        if mix is None:
            return inputs, labels, labels, 1.0
        places = (torch.searchsorted(needed, rows) for rows in (own, mix.partners[own]))
        at, partners = (rows.to(inputs.device, non_blocking=True) for rows in places)
        mixed, weight = mix(inputs if len(own) == len(needed) else inputs[at], inputs, partners)
        return mixed, labels[at], labels[partners], weight


def _pinned(tensor: Tensor, runtime: Runtime) -> Tensor:
    """Page-locked memory, from which a copy to the GPU does not make the host wait."""
    return tensor.pin_memory() if runtime.device.type == "cuda" else tensor


def epoch_plan(
    num_images: int, batch_size: int, accumulate: int, seed: int, epoch: int, limit: int | None
) -> list[StepPlan]:
    """All optimiser steps of one epoch.

    The images are shuffled and dealt into ceil(N / batch_size) batches whose sizes differ by at most one, so there is
    no small last batch to unsettle batch norm; every image is seen once. Of two images or more, no batch has fewer than
    two (a batch_size of 2 may therefore once be 3).

    Args:
        limit: use only so many batches.
    """
    order = torch.randperm(num_images, generator=generator(seed, "order", epoch))
    num_batches = max(1, min(-(-num_images // batch_size), num_images // 2))
    batches = list(torch.tensor_split(order, num_batches))[:limit]
    groups = [batches[start : start + accumulate] for start in range(0, len(batches), accumulate)]
    return [StepPlan(index, group) for index, group in enumerate(groups)]


def in_order(num_images: int, batch_size: int, limit: int | None = None) -> Iterator[Tensor]:
    """Index batches for inference: the split's own order."""
    for start in list(range(0, num_images, batch_size))[:limit]:
        yield torch.arange(start, min(start + batch_size, num_images))
