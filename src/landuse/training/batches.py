"""Batches of packed images on the device, in an order that is a pure function of (seed, epoch).

Where a GPU's memory does not hold the split, a thread reads the next batch from the memory map while the GPU computes.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from landuse.data.augment import Augmentation, Draws, Mix, Mixing
from landuse.data.augment.transfer import to_device
from landuse.data.pack import PackedSplit
from landuse.training.device import Runtime
from landuse.training.group import Group
from landuse.training.profile import part
from landuse.training.seed import generator


class Batch(NamedTuple):
    """What one forward pass takes: the loss is ``weight * loss(labels) + (1 - weight) * loss(partner_labels)``."""

    inputs: Tensor  # normalised, (n, 3, S, S) float32
    labels: Tensor  # (n,) int64
    partner_labels: Tensor  # (n,) int64; where nothing is mixed, the labels once more
    weight: float  # share of the pixels that is the image's own


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
        # Page-locked memory, from which a copy to the GPU does not make the host wait.
        self._pinned = runtime.device.type == "cuda"
        # While a GPU computes, the host has a core to spare. A CPU has none: with a thread the loop ran as fast as
        # without at 64 px, from cold memory as from warm, and batches alone at 0.83 of their rate at 256 px (2 cores,
        # torch 2.15).
        self.are_read_ahead = self._pinned and not self.are_resident

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, H, W, 3) uint8 and labels (N,) int64 of the given rows, on the device."""
        return self.send(*self.fetch(indices))

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The host's part of :meth:`gather`, in any thread: images (or, if resident, their rows), and labels."""
        labels = self._pin(self._labels[indices])
        if self.are_resident:
            return self._pin(indices), labels
        # numpy's fancy indexing copies whole images ten times faster than torch's.
        return self._pin(torch.from_numpy(self._images[indices.numpy()])), labels

    def send(self, fetched: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The device's part of :meth:`gather`, for which the host does not wait; takes what :meth:`fetch` gave."""
        fetched, labels = self._runtime.to_device(fetched), self._runtime.to_device(labels)
        return (fetched if self._resident is None else self._resident[fetched]), labels

    def _pin(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._pinned else tensor


@dataclass(frozen=True)
class _Share:
    """What the host prepares of one batch: this process's images, and the partners that they are mixed with."""

    fetched: tuple[Tensor, Tensor]  # for Images.send
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

    def of_epoch(
        self, epoch: int, plan: list[StepPlan], done: int = 0
    ) -> Generator[tuple[StepPlan, Iterator[Batch]], None, None]:
        """The steps of an epoch, each with its batches, all to be taken; to be closed, where not all steps are.

        Args:
            epoch: counted from 0.
            plan: of the epoch.
            done: steps of it that are not to be done again.
        """
        with closing(self._shares(epoch, plan, done)) as shares:
            for step in plan[done:]:
                yield step, map(self._finish, islice(shares, len(step.batches)))

    def _shares(self, epoch: int, plan: list[StepPlan], done: int) -> Generator[_Share, None, None]:
        shares = self._prepare(epoch, plan, done)
        if not self._images.are_read_ahead:
            yield from shares
            return
        with ThreadPoolExecutor(1, "batches") as executor:
            coming = executor.submit(next, shares, None)
            while (share := self._wait_for(coming)) is not None:
                coming = executor.submit(next, shares, None)
                yield share

    @staticmethod
    def _wait_for(coming: Future[_Share | None]) -> _Share | None:
        with part("data"):
            return coming.result()

    def _prepare(self, epoch: int, plan: list[StepPlan], done: int) -> Iterator[_Share]:
        for step in plan[done:]:
            draws = generator(self._seed, "augment", epoch, step.index)
            progress = (epoch + step.index / len(plan)) / self._epochs
            for indices in step.batches:
                yield self._share(indices, draws, progress)

    def _share(self, indices: Tensor, generator: torch.Generator, progress: float) -> _Share:
        num_images = len(indices)
        draws, mix = Draws.draw(num_images, generator), self._mixing.draw(num_images, generator, progress)
        own = torch.arange(num_images)[self._group.rows(num_images)]
        partners = own if mix is None else mix.partners[own]
        needed = torch.unique(torch.cat([own, partners]))
        if len(needed) < num_images:
            indices, draws = indices[needed], draws.of(needed)
        own, partners = (torch.searchsorted(needed, rows) for rows in (own, partners))
        with part("data"):
            fetched = self._images.fetch(indices)
        return _Share(fetched, draws, mix, own, partners, progress)

    def _finish(self, share: _Share) -> Batch:
        with part("transfer"):
            images, labels = self._images.send(*share.fetched)
        with part("augmentation"):
            inputs = self._augmentation(images, share.draws, share.progress)
            if share.mix is None:
                return Batch(inputs, labels, labels, 1.0)
            own, partners = (to_device(rows, inputs.device) for rows in (share.own, share.partners))
            mixed, weight = share.mix(inputs if len(own) == len(inputs) else inputs[own], inputs, partners)
            return Batch(mixed, labels[own], labels[partners], weight)


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
