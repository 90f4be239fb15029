"""What is known of files that have not changed since: so that unchanged data is recognised without being read again."""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from landuse.files import write_json

SETTLED_S = 2  # a file changed again within the resolution of its time stamps would pass for unchanged


def signature(files: Iterable[Path]) -> str | None:
    """SHA-256 over names, sizes and times of change; None where one changed so recently that a next change could hide.

    The time of the last status change, which no program can set back, comes along with the one of modification.
    """
    digest, newest = hashlib.sha256(), 0
    for file in files:
        found = file.stat()
        digest.update(os.fsencode(file) + f"\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\0".encode())
        newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
    return digest.hexdigest() if newest < time.time_ns() - SETTLED_S * 10**9 else None


def recall(home: Path, subject: str, seen: str | None) -> str | None:
    """The identity that was remembered for ``subject`` under this very signature, if any."""
    try:
        known = json.loads(_file(home, subject).read_text(encoding="utf-8"))
        return str(known["identity"]) if seen is not None and known["signature"] == seen else None
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or spoilt: the data is read once more
        return None


def remember(home: Path, subject: str, seen: str | None, identity: str) -> None:
    """Keep the identity of ``subject`` for :func:`recall`."""
    if seen is not None:
        write_json(_file(home, subject), {"subject": subject, "signature": seen, "identity": identity})


def _file(home: Path, subject: str) -> Path:
    return home / "identities" / f"{hashlib.sha256(subject.encode(errors='surrogateescape')).hexdigest()[:16]}.json"
