"""How far a long piece of work has come: a bar on a terminal, now and then a plain line elsewhere."""

import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0  # where there is no terminal


@functools.cache
def terminal() -> "Console":
    """The one rich console on stderr: a progress bar and log lines keep clear of each other only on the same one."""
    from rich.console import Console

    return Console(stderr=True)


class Bar:
    """One bar with the time left, which leaves nothing behind when it is closed.

    Args:
        before: a format of ``task`` in front of the bar, such as "epoch {task.fields[epoch]}".
        after: the same behind it, in front of the time left.
        fields: first values of what the formats name.
    """

    def __init__(self, before: str, after: str, total: float | None = None, **fields: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn(before, markup=False), BarColumn(), TextColumn(after, markup=False), TimeRemainingColumn()
        self._progress = Progress(*columns, console=terminal(), transient=True, refresh_per_second=4)
        self._task = self._progress.add_task("", total=total, **fields)
        self._progress.start()

    def update(self, completed: float, total: float | None = None, **fields: Any) -> None:
        with suppress(OSError, SystemExit):  # a terminal that is gone, which rich leaves the process for
            self._progress.update(self._task, completed=completed, total=total, **fields)

    def close(self) -> None:
        with suppress(OSError, SystemExit):
            self._progress.stop()


@contextmanager
def counting_bytes(name: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how many bytes of ``name`` there are, from ``start`` on; yields what is to be told each new number of them.

    Args:
        total: bytes of the whole; None where nobody knows.
    """
    begun = time.monotonic()
    is_terminal = sys.stderr.isatty()
    bar = Bar("{task.fields[name]}", "{task.fields[text]}", total, name=name, text="") if is_terminal else None
    said_at = begun

    def update(now: int) -> None:
        nonlocal said_at
        seconds = time.monotonic() - begun
        rate = (now - start) / seconds if seconds > 0 else 0.0
        text = f"{size(now)}{f' of {size(total)}' if total is not None else ''}, {size(int(rate))}/s"
        if bar is not None:
            bar.update(now, total, text=text)
        elif time.monotonic() - said_at >= LINE_EVERY_S:
            said_at = time.monotonic()
            log.info("%s: %s", name, text)

    try:
        update(start)
        yield update
    finally:
        if bar is not None:
            bar.close()


def size(num_bytes: int) -> str:
    """A number of bytes for people, in powers of ten as disks and networks are sold: "94.3 MB"."""
    number = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 999.95 or unit == "TB":
            return f"{num_bytes} bytes" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError
