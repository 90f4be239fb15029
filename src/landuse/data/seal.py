"""Whether the files of a pack are still what was written: else a training would go on with other data unnoticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from landuse.data.identity import recall, remember, signature


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_unchanged(home: Path, folder: Path, sums: Mapping[str, str]) -> None:
    """Compare files with the checksums of when they were written.

    They are read (about a second a gigabyte) when their times or sizes have changed since they were last found right.

    Args:
        home: ``data.home``, where that is noted.
        sums: SHA-256 by the file's name in ``folder``.

    Raises:
        ValueError: names the first that was changed, with both checksums.
        OSError: one cannot be read.
    """
    subject, seal = (
        f"{folder.resolve()}: {' '.join(sums)}",
        hashlib.sha256(repr(sorted(sums.items())).encode()).hexdigest(),
    )
    seen = signature(folder / name for name in sums)
    if recall(home, subject, seen) == seal:
        return
    for name, expected in sums.items():
        if (found := digest(folder / name)) != expected:
            raise ValueError(f"{name} was changed: its fingerprint is {found[:12]} and was {expected[:12]}")
    remember(home, subject, seen, seal)
