"""Ctrl-C and SIGTERM during a training: finish the step, write a checkpoint, leave. A second one leaves at once.

Of several processes each may get the first one twice, from the terminal and from torchrun; torchrun is who ends them
when they take too long.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from landuse import interrupts
from landuse.errors import Interrupted
from landuse.training.loop import Trainer


@contextmanager
def stopping_after_a_step(trainer: Trainer) -> Iterator[None]:
    """Route both signals to ``trainer.stop_signal``; nothing outside the main thread, where no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request_stop(number: int, _frame: FrameType | None) -> None:
        if trainer.stop_signal is not None and trainer.group.size == 1:
            raise Interrupted(number, "Interrupted twice: left at once, without a checkpoint of this step.")
        trainer.stop_signal = number

    interrupts.raise_received()  # it may have come in a destructor, where Python only prints what is raised
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, request_stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
