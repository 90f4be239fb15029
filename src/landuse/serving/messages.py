"""What a service and its workers say to each other: pickled, for a process and its child trust each other."""

import pickle
import struct
from asyncio import StreamReader
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.data.limits import Limits
from landuse.monitoring.reference import Reference, Rows
from landuse.serving.artifact import ServedModel

LENGTH = struct.Struct("<Q")

Image = bytes | NDArray[np.uint8]  # a file, or pixels (S, S, 3)


class Load(NamedTuple):
    """Asks for a model to be loaded; the answer is None, or why it cannot be."""

    model: ServedModel
    graph: bytes
    reference: Reference | None  # for drift
    num_threads: int
    max_batch: int
    limits: Limits


class Batch(NamedTuple):
    """Asks for answers; the answer is :class:`Answered`, or text: the traceback of what failed."""

    version: str  # of the model
    images: Sequence[Image]
    is_watched: bool  # whether what drift is judged by is wanted


class Answered(NamedTuple):
    """What became of a batch."""

    outcomes: list[NDArray[np.float32] | tuple[int, str]]  # probabilities (C,), or a status of HTTP and the reason
    rows: Rows | None  # what drift is judged by
    num_answered: int
    decoding_s: float
    inference_s: float
    watching_s: float


class OpenScene(NamedTuple):
    """Asks for a large image to be decoded; the answer is :class:`Opened`, or a status of HTTP and the reason."""

    content: bytes  # the file
    value_range: Sequence[float] | None  # of the model, see :func:`landuse.data.decode.decode`
    limits: Limits
    preview_px: int  # of the preview's longer side, at most


class Opened(NamedTuple):
    """An image that waits to be cut."""

    width: int
    height: int
    preview: bytes  # JPEG


class CutTiles(NamedTuple):
    """Asks for neighbouring windows of the opened image; the answer is (N, size_px, size_px, 3) uint8."""

    tile: int  # pixels of the image
    stride: int
    row: int  # of windows
    columns: range
    size_px: int


def packed(message: Any) -> bytes:
    """One message as it is sent."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(content)) + content


def send(sink: IO[bytes], message: Any) -> None:
    """Write one message."""
    sink.write(packed(message))
    sink.flush()


def receive(source: IO[bytes]) -> Any:
    """Read one message.

    Raises:
        EOFError: the other side has ended.
    """
    head = source.read(LENGTH.size)
    content = source.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
    if not content:
        raise EOFError
    return pickle.loads(content)


async def receive_from(source: StreamReader) -> Any:
    """Read one message.

    Raises:
        EOFError: the other side has ended.
    """
    (size,) = LENGTH.unpack(await source.readexactly(LENGTH.size))
    return pickle.loads(await source.readexactly(size))
