"""Ctrl-C and SIGTERM as exceptions that are not lost.

An exception raised by a signal can come anywhere in a library, and not all withstand that: Hydra and OmegaConf, in the
middle of composing a configuration, end in an error of their own in one case of twenty. So it is kept in mind that a
signal came, and an error after it counts as the interruption.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from landuse.errors import Interrupted

_received: int | None = None


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Both signals unwind the stack, so that files and trackers are closed; a SIGINT that is ignored remains so.

    Raises:
        KeyboardInterrupt, Interrupted: a signal came, whatever error the block ended in.
    """
    global _received
    _received = None

    def stop(number: int, _frame: FrameType | None) -> None:
        global _received
        _received = number
        raise_received()

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt | Interrupted | SystemExit):
            raise_received()
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _received = None


def raise_received() -> None:
    """Raise the signal that has come, if one has.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
        Interrupted: it was SIGTERM.
    """
    if _received == signal.SIGINT:
        raise KeyboardInterrupt
    if _received is not None:
        raise Interrupted(_received)
