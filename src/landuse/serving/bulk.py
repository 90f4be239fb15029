"""Many image files through an engine, in their order, by all cores.

Each thread reads and decodes a batch of its own and lets the model answer it in the same thread: decoding and
arithmetic release Python's lock, no core waits for another's part of the work, and no two libraries share out the cores
against each other.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.data.decode import UnusableImageError, decode_square
from landuse.data.judge import MAX_ENTRY_BYTES
from landuse.files import open_regular
from landuse.serving.engine import Answers, Engine

AHEAD = 4  # batches a thread that may be done before their turn, so that a large image keeps no thread waiting


class Batch(NamedTuple):
    """What became of N files."""

    paths: Sequence[Path]
    problems: Sequence[str | None]  # why a file could not be used; None: it was
    answers: Answers | None  # of the M files that were used, in their order; None: there are none


def answer_files(
    engine: Engine,
    paths: Sequence[Path],
    num_threads: int,
    batch_size: int,
    value_range: Sequence[float] | None = None,
) -> Generator[Batch, None, None]:
    """Decode all files and let the model answer them, a batch at a time and in their order.

    However many files there are, the pixels of ``num_threads`` batches are in memory, and the answers of a few more.
    Close the iterator when leaving it early: the threads then stop after the image or the batch they are at.

    Args:
        engine: with one thread a call.
        batch_size: the largest; of a few files each thread takes its share.
        value_range: what becomes 0 and 255 in images of one channel with more than 8 bits; None: the model's own.
    """
    batch_size = min(batch_size, -(-len(paths) // num_threads))
    is_closed = threading.Event()

    def answer(start: int) -> Batch:
        return _answer(engine, paths[start : start + batch_size], is_closed, value_range or engine.model.value_range)

    executor = ThreadPoolExecutor(num_threads)
    waiting: deque[Future[Batch]] = deque()
    try:
        for start in range(0, len(paths), batch_size):
            if len(waiting) == AHEAD * num_threads:
                yield waiting.popleft().result()
            waiting.append(executor.submit(answer, start))
        while waiting:
            yield waiting.popleft().result()
    finally:
        is_closed.set()
        executor.shutdown(cancel_futures=True)


def _answer(
    engine: Engine, paths: Sequence[Path], is_closed: threading.Event, value_range: Sequence[float] | None
) -> Batch:
    size_px = engine.model.image_size
    images = np.empty((len(paths), size_px, size_px, 3), np.uint8)
    problems: list[str | None] = []
    count = 0
    for path in paths:
        if is_closed.is_set():  # nobody waits for the answers
            break
        try:
            images[count] = _read(path, size_px, value_range)
            count += 1
            problems.append(None)
        except UnusableImageError as error:
            problems.append(error.reason)
        except (OSError, ValueError) as error:  # the latter of what is no regular file
            problems.append(f"cannot be read ({getattr(error, 'strerror', None) or error}).")
    return Batch(paths, problems, engine(images[:count]) if count and not is_closed.is_set() else None)


def _read(path: Path, size_px: int, value_range: Sequence[float] | None) -> NDArray[np.uint8]:
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_ENTRY_BYTES:  # as in archives
            raise ValueError(f"it has more than {MAX_ENTRY_BYTES:,} bytes")
        content = file.read()
    return decode_square(content, str(path), size_px, value_range)
