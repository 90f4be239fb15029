"""What the model has said of a scene's chunks, kept on disk as it comes: what resuming, sharding and merging rest on.

A part is a file of slots of equal size, one for each chunk of a shard, and a description beside it:

    part-1-of-4.bin    magic, CRC-32 of the rest, float32 (windows, classes + 1): probabilities, and the share of data;
                       uint8 (h, w, 3): what the chunk shows in the preview
    part-1-of-4.json   scene, model, windows: parts of different ones are never joined

Slots are written whole and in any order; one that was not finished fails its checksum and is computed again.
"""

import json
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landuse.config.validate_map import MOST_SHARDS
from landuse.errors import UserError
from landuse.files import read_text, replacing, write_json
from landuse.mapping.plan import Chunk, Grid
from landuse.mapping.preview import Preview

HEADER, MAGIC = struct.Struct("<4sI"), b"luw1"
LARGEST_DESCRIPTION = 1_000_000  # bytes
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Shard:
    """One of several processes that share a scene.

    Attributes:
        number: from 1.
        of: how many there are.
    """

    number: int = 1
    of: int = 1

    def chunks(self, grid: Grid) -> Sequence[Chunk]:
        """Its share of a scene: neighbouring chunks, so that each part of the file is read by one process."""
        total = len(grid.chunks)
        return grid.chunks[total * (self.number - 1) // self.of : total * self.number // self.of]


class Answer(NamedTuple):
    """What is kept of a chunk."""

    windows: FloatArray  # (N, C + 1) probabilities, and the share of data of each window
    shown: NDArray[np.uint8]  # (h, w, 3), its part of the scene's preview


class Part:
    """The answers of one shard, on disk."""

    def __init__(self, folder: Path, shard: Shard, grid: Grid, num_classes: int) -> None:
        self.chunks, self._num_channels = shard.chunks(grid), num_classes + 1
        self._first = self.chunks[0].number if self.chunks else 0
        self._preview = Preview(grid)
        self._slot = HEADER.size + _largest_payload(grid, self._num_channels)
        self.path = folder / f"part-{shard.number}-of-{shard.of}.bin"
        self._lock = threading.Lock()

    @contextmanager
    def opened(self, description: dict[str, Any]) -> Iterator["OpenPart"]:
        """The part, made or gone on with, held for this process.

        Raises:
            UserError: another process holds it, or it is of another scene, model or plan.
        """
        from filelock import FileLock, Timeout

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path.with_suffix(".lock"), timeout=0):
                if not self.path.with_suffix(".json").exists():
                    self.path.unlink(missing_ok=True)  # answers of which nobody knows what they are of
                    write_json(self.path.with_suffix(".json"), description)
                self.require(description)
                with self.path.open("r+b" if self.path.exists() else "w+b", buffering=0) as file:
                    yield OpenPart(self, file)
        except Timeout as error:
            raise UserError(
                f"Another process is at {self.path}: let it end, or give each its own shard=i/n."
            ) from error

    def require_device(self, device: str) -> None:
        """Make sure that a part is completed where it was begun: other arithmetic differs in the last digits.

        Raises:
            UserError: it was begun on another kind of device.
        """
        path = self.path.with_suffix(".device")
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(device, encoding="utf-8", newline="\n")
        elif (begun := path.read_text(encoding="utf-8", errors="replace").strip()[:20]) != device:
            raise UserError(
                f"{self.path} was begun on {begun} and would be completed on {device}, which computes a little "
                f"differently: give trainer.device={begun}, or remove that file."
            )

    def require(self, description: dict[str, Any]) -> None:
        """Make sure that what is there is of this scene, model and plan.

        Raises:
            UserError: it is not; names what differs.
        """
        path = self.path.with_suffix(".json")
        try:
            found = json.loads(read_text(path, LARGEST_DESCRIPTION))
            if not isinstance(found, dict):
                raise ValueError("it is no description")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged ({error}): remove {self.path.parent}, and map the scene again."
            ) from error
        now = json.loads(json.dumps(description))
        if found == now:
            return
        key = next(key for key in [*now, *found] if found.get(key) != now.get(key))
        raise UserError(
            f"{path.parent} holds a map of another {key} ({str(found.get(key))[:200]} then, "
            f"{str(now.get(key))[:200]} now): choose another output=PATH, or remove that folder."
        )

    def read(self, file: BinaryIO, chunk: Chunk) -> Answer | None:
        """What is there of a chunk; None: nothing, or nothing whole.

        Raises:
            OSError: the file cannot be read.
        """
        with self._lock:
            file.seek(self._slot * (chunk.number - self._first))
            content = file.read(HEADER.size + sum(_sizes(self._preview, chunk, self._num_channels)))
        payload, (num_bytes, num_shown) = content[HEADER.size :], _sizes(self._preview, chunk, self._num_channels)
        if len(payload) != num_bytes + num_shown or HEADER.unpack_from(content) != _header(payload):
            return None
        down, across = self._preview.place(chunk)
        return Answer(
            np.frombuffer(payload[:num_bytes], "<f4").reshape(chunk.num_windows, self._num_channels),
            np.frombuffer(payload[num_bytes:], np.uint8).reshape(down.stop - down.start, across.stop - across.start, 3),
        )

    def write(self, file: BinaryIO, chunk: Chunk, answer: Answer) -> None:
        """Keep what was said of a chunk; several threads may.

        Raises:
            OSError: it cannot be written.
        """
        payload = answer.windows.astype("<f4").tobytes() + answer.shown.tobytes()
        content = memoryview(HEADER.pack(*_header(payload)) + payload)
        with self._lock:
            file.seek(self._slot * (chunk.number - self._first))
            while content:  # unbuffered files may take a part only
                content = content[file.write(content) :]


def _sizes(preview: Preview, chunk: Chunk, num_channels: int) -> tuple[int, int]:
    """Bytes of the two things that are kept of a chunk."""
    down, across = preview.place(chunk)
    return 4 * chunk.num_windows * num_channels, 3 * (down.stop - down.start) * (across.stop - across.start)


@lru_cache(maxsize=4)  # the same for all parts of a scene, which may have a hundred thousand chunks
def _largest_payload(grid: Grid, num_channels: int) -> int:
    preview = Preview(grid)
    return max(sum(_sizes(preview, chunk, num_channels)) for chunk in grid.chunks)


def _header(payload: bytes) -> tuple[bytes, int]:
    return MAGIC, zlib.crc32(payload)


@dataclass(frozen=True)
class OpenPart:
    """A part that is being made."""

    part: Part
    file: BinaryIO

    def pending(self) -> list[Chunk]:
        """The chunks that are yet to be answered."""
        return [chunk for chunk in self.part.chunks if self.part.read(self.file, chunk) is None]

    def write(self, chunk: Chunk, answer: Answer) -> None:
        """As :meth:`Part.write`."""
        self.part.write(self.file, chunk, answer)


class Answers:
    """What was said of all windows of a scene, read from its parts a few rows at a time."""

    def __init__(self, grid: Grid, parts: Sequence[tuple[Part, BinaryIO]], num_classes: int) -> None:
        self._grid, self._num_channels = grid, num_classes + 1
        self._where = {chunk.number: (part, file) for part, file in parts for chunk in part.chunks}
        self._row = lru_cache(maxsize=3)(self._read_row)
        self._chunks = {start: list(row) for start, row in groupby(grid.chunks, key=lambda chunk: chunk.rows.start)}

    def rows(self, windows: slice) -> tuple[FloatArray, FloatArray]:
        """Probabilities (R, N, C) of these rows of windows, and the share of data (R, N) of each.

        Raises:
            UserError: a part was damaged since it was made.
        """
        first = [start for start in self._chunks if start < windows.stop]
        first = first[sum(start <= windows.start for start in first) - 1 :]
        block = np.concatenate([self._row(start) for start in first])[
            windows.start - first[0] : windows.stop - first[0]
        ]
        return block[..., :-1], block[..., -1]

    def preview(self) -> NDArray[np.uint8]:
        """The scene (h, w, 3), small enough to be looked at.

        Raises:
            UserError: as :meth:`rows`.
        """
        preview = Preview(self._grid)
        picture = np.zeros((*preview.shape, 3), np.uint8)
        for chunk in self._grid.chunks:
            picture[preview.place(chunk)] = self._read(chunk).shown
        return picture

    def _read_row(self, start: int) -> FloatArray:
        blocks = [
            self._read(chunk).windows.reshape(len(chunk.rows), len(chunk.columns), self._num_channels)
            for chunk in self._chunks[start]
        ]
        return np.concatenate(blocks, axis=1)

    def _read(self, chunk: Chunk) -> Answer:
        part, file = self._where[chunk.number]
        if (answer := part.read(file, chunk)) is None:
            raise UserError(f"{part.path} was damaged since it was made: run the command again to complete it.")
        return answer


@contextmanager
def joined(folder: Path, grid: Grid, num_classes: int, description: dict[str, Any]) -> Iterator[Answers]:
    """All answers of a scene, of one process or of several.

    Raises:
        UserError: parts are missing, incomplete, or of another scene, model or plan; says which.
    """
    problems: dict[int, str] = {}
    for of, num_found in sorted(_kinds(folder).items(), key=lambda kind: kind[1] / kind[0], reverse=True):
        parts = [Part(folder, Shard(number, of), grid, num_classes) for number in range(1, of + 1)]
        parts = [part for part in parts if part.chunks]
        with ExitStack() as stack:
            pairs = [(part, stack.enter_context(part.path.open("rb"))) for part in parts if part.path.is_file()]
            for part, _ in pairs:
                part.require(description)
            problem = _problem(parts, pairs)
            if problem is None:
                yield Answers(grid, pairs, num_classes)
                return
        problems[num_found] = problem
    raise UserError(f"{folder}: {next(iter(problems.values()), 'holds no parts of a map, run the shards first')}.")


def _kinds(folder: Path) -> dict[int, int]:
    """Into how many parts a map was divided -> how many of these are there."""
    counts: dict[int, int] = {}
    for path in folder.glob("part-*-of-*.bin"):
        number = path.stem.rpartition("-")[2]
        if number.isdecimal() and 1 <= int(number) <= MOST_SHARDS:
            counts[int(number)] = counts.get(int(number), 0) + 1
    return counts


def _problem(parts: Sequence[Part], pairs: Sequence[tuple[Part, BinaryIO]]) -> str | None:
    """Why these parts are no whole; None: they are."""
    there = {part.path for part, _ in pairs}
    missing = [part.path.name for part in parts if part.path not in there]
    if missing:
        return f"lacks {', '.join(missing[:5])}, run the other shards before they are joined"
    for part, file in pairs:
        if left := sum(part.read(file, chunk) is None for chunk in part.chunks):
            return (
                f"{part.path.name} is not complete ({left} of {len(part.chunks)} chunks are missing), run that shard "
                "again, it goes on where it ended"
            )
    return None
