"""Several observers of a training as one."""

from typing import Any

from landuse.training.loop import Observer


class Observers:
    """Passes every event on, in the order in which the observers were added."""

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
