"""Who looks on while a training runs: files, console, trackers."""

from typing import Any, Protocol


class Observer(Protocol):
    """Is told of every step and epoch."""

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        """After optimiser step ``step`` of ``num_steps``, ``num_images`` into the epoch. Must not read the device."""

    def epoch(self, record: dict[str, Any]) -> None:
        """After the validation of an epoch, with the line that goes into metrics.jsonl."""


class Observers:
    """Several observers as one; events are passed on in the order in which they were added."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def add(self, *observers: Observer) -> None:
        self._observers += observers

    def step(self, epoch: int, step: int, num_steps: int, num_images: int) -> None:
        for observer in self._observers:
            observer.step(epoch, step, num_steps, num_images)

    def epoch(self, record: dict[str, Any]) -> None:
        for observer in self._observers:
            observer.epoch(record)
