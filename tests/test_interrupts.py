"""Signals become exceptions, and none is lost to a library or to Python."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from landuse import interrupts
from landuse.errors import Interrupted
from landuse.training.signals import stopping_after_a_step


class Stopped:
    """An object in whose destructor a signal comes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)])
def test_what_a_library_makes_of_a_signal_is_an_interruption_still(number: int, raised: type) -> None:
    @interrupts.as_exceptions()
    def compose() -> None:
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raise ValueError("mapping expected") from error

    handlers = [signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)]
    try:
        with pytest.raises(raised):
            compose()
        assert signal.getsignal(signal.SIGTERM) is handlers[1]
    finally:
        signal.signal(signal.SIGINT, handlers[0])
    interrupts.raise_received()  # nothing of it is left for the next command


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_came_in_a_destructor_ends_the_training_before_it_begins() -> None:
    @interrupts.as_exceptions()
    def train(trainer: Any) -> None:
        Stopped()  # Python prints what is raised there and goes on
        with stopping_after_a_step(trainer):
            raise AssertionError("it trains")

    with pytest.raises(Interrupted):
        train(SimpleNamespace(stop_signal=None))
