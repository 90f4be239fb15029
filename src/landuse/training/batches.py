"""Batches of packed images on the device, in an order that is a pure function of (seed, epoch).

What the host has to do for a batch, reading the memory map above all, it does while the one before is trained on.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landuse.data.augment import Augmentation, Draws, Mix, Mixing
from landuse.data.pack import PackedSplit
from landuse.training.device import Runtime
from landuse.training.group import Group
from landuse.training.seed import generator

# Normalised inputs (n, 3, S, S), the labels (n,) of both partners, and the first one's weight w, which is its share of
# the pixels: the loss is ``w * loss(labels_a) + (1 - w) * loss(labels_b)``.
Batch = tuple[Tensor, Tensor, Tensor, float]


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
        self.are_resident = runtime.fits(split.images.nbytes)
        self._images = split.images
        self._resident = torch.from_numpy(np.array(split.images)).to(runtime.device) if self.are_resident else None
        self._labels = torch.from_numpy(split.labels)
        self._device_labels = self._labels.to(runtime.device)
        # Page-locked memory, from which a copy to the GPU does not make the host wait.
        self._pinned = runtime.device.type == "cuda"

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, H, W, 3) uint8 and labels (N,) int64 of the given rows, on the device."""
        return self.send(self.fetch(indices))

    def fetch(self, indices: Tensor) -> tuple[Tensor, ...]:
        """The host's part of :meth:`gather`, which any thread may do: what :meth:`send` takes."""
        if self._resident is not None:
            return (self._pin(indices),)
        images = torch.empty(len(indices), *self._images.shape[1:], dtype=torch.uint8, pin_memory=self._pinned)
        # numpy copies whole images ten times faster than torch's indexing; "raise" would go through a second copy.
        np.take(self._images, indices.numpy(), axis=0, out=images.numpy(), mode="clip")
        return images, self._pin(self._labels[indices])

    def send(self, fetched: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The device's part of :meth:`gather`; the host does not wait for it."""
        first, *labels = (self._runtime.to_device(each) for each in fetched)
        if self._resident is not None:
            return self._resident[first], self._device_labels[first]
        return first, labels[0]

    def _pin(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._pinned else tensor


@dataclass(frozen=True)
class _Share:
    """What the host prepares of one batch: this process's images, and the partners that they are mixed with."""

    fetched: tuple[Tensor, ...]  # for Images.send
    draws: Draws  # for the images fetched
    mix: Mix | None
    own: Tensor  # (n,) int64, where among the fetched the share itself is
    partners: Tensor  # (n,) int64, and where its partners
    progress: float  # share of the training that is done, 0..1


class TrainingBatches:
    """Batches of one split, augmented and mixed; of each batch the share of this process.

    What is drawn is drawn for the whole batch, so that every share is what it would be in one process.
    """

    def __init__(
        self, images: Images, augmentation: Augmentation, mixing: Mixing, group: Group, seed: int, epochs: int
    ) -> None:
        """
        Args:
            epochs: of the whole training, for what changes in its course.
        """
        self._images, self._augmentation, self._mixing, self._group = images, augmentation, mixing, group
        self._seed, self._epochs = seed, epochs

    def of_epoch(self, epoch: int, plan: list[StepPlan], done: int = 0) -> Generator[Batch, None, None]:
        """The share of each forward pass of an epoch; to be closed, where not all are taken.

        Args:
            epoch: counted from 0.
            plan: of the epoch.
            done: steps of it that are not to be done again.
        """
        shares = self._prepare(epoch, plan, done)
        if self._images.are_resident:  # the host draws a few numbers, and another thread would only be in its way
            yield from map(self._finish, shares)
            return
        with ThreadPoolExecutor(1, "batches") as thread:
            coming = thread.submit(next, shares, None)
            while (share := coming.result()) is not None:
                coming = thread.submit(next, shares, None)
                yield self._finish(share)

    def _prepare(self, epoch: int, plan: list[StepPlan], done: int) -> Iterator[_Share]:
        for step in plan[done:]:
            draws = generator(self._seed, "augment", epoch, step.index)
            progress = (epoch + step.index / len(plan)) / self._epochs
            yield from (self._share(indices, draws, progress) for indices in step.batches)

    def _share(self, indices: Tensor, generator: torch.Generator, progress: float) -> _Share:
        num_images = len(indices)
        draws, mix = Draws.draw(num_images, generator), self._mixing.draw(num_images, generator, progress)
        own = torch.arange(num_images)[self._group.rows(num_images)]
        partners = own if mix is None else mix.partners[own]
        needed = torch.unique(torch.cat([own, partners]))
        if len(needed) < num_images:
            indices, draws = indices[needed], draws.of(needed)
        own, partners = (torch.searchsorted(needed, rows) for rows in (own, partners))
        return _Share(self._images.fetch(indices), draws, mix, own, partners, progress)

    def _finish(self, share: _Share) -> Batch:
        images, labels = self._images.send(share.fetched)
        inputs = self._augmentation(images, share.draws, share.progress)
        if share.mix is None:
            return inputs, labels, labels, 1.0
        own, partners = (rows.to(inputs.device, non_blocking=True) for rows in (share.own, share.partners))
        mixed, weight = share.mix(inputs if len(own) == len(inputs) else inputs[own], inputs, partners)
        return mixed, labels[own], labels[partners], weight


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
