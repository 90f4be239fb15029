"""Arrays on disk of which rows are read when they are asked for, so that memory does not grow with their number."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Rows:
    """Read-only rows of uint8 in a file of their own.

    Unlike a memory map, what has been read does not stay in the process's memory, and a file cut short is an error
    instead of a signal.
    """

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        """
        Args:
            shape: (N, ...), of which N is the number of rows.
        """
        self.shape = tuple(shape)
        self.row_bytes = int(np.prod(self.shape[1:]))
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()  # the position in the file is one for all threads

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """One row, or (len(index), ...) of them in the order asked for."""
        if isinstance(index, int):
            return np.asarray(self[[index]][0])
        rows = np.empty((len(index), *self.shape[1:]), np.uint8)
        wanted = np.asarray(index, np.int64)
        ends = np.flatnonzero(np.diff(wanted) != 1) + 1  # rows that lie together are read together
        for start, end in zip([0, *ends.tolist()], [*ends.tolist(), len(wanted)], strict=True):
            self._read(rows[start:end], int(wanted[start]))
        return rows

    def _read(self, rows: NDArray[np.uint8], first: int) -> None:
        rest = rows.reshape(-1).data
        with self._lock:
            self._file.seek(first * self.row_bytes)
            while rest:
                if not (num_bytes := self._file.readinto(rest)):
                    raise OSError(f"{self._file.name} ends before row {first + len(rows) - 1}")
                rest = rest[num_bytes:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
