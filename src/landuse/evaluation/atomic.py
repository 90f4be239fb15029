"""Files that are either the old version or the new one, never half of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what is written there takes the place of `path` when the block succeeds.

    The temporary file lies in the same folder because a rename is atomic only within one file system. When the block
    raises, it is removed and `path` stays as it was. The folder is created where missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # without it, a power cut can leave the new name on empty content
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
