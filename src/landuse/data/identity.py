"""What is known of files that have not changed since: so that unchanged data is recognised without being read again."""

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from landuse.files import write_json

FORMAT = 2  # raise when identities are made differently: those of before are forgotten
SETTLED_S = 2  # a file changed again within the resolution of its time stamps would pass for unchanged


def signature(files: Iterable[Path | str]) -> str | None:
    """SHA-256 over names, sizes and times of change; None where one changed so recently that a next change could hide.

    The time of the last status change, which no program can set back, comes along with the one of modification.

    Raises:
        OSError: there is no such file, or it is a pipe or a device.
    """
    digest, newest = hashlib.sha256(), 0
    for file in files:
        found = os.stat(file)  # noqa: PTH116 - a Path of each of very many would take longer than asking
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(file))
        digest.update(os.fsencode(file) + f"\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\0".encode())
        newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
    return digest.hexdigest() if newest < time.time_ns() - SETTLED_S * 10**9 else None


def recall(home: Path, subject: str, seen: str | None) -> str | None:
    """The identity that was remembered for ``subject`` under this very signature, if any."""
    try:
        known = json.loads(_file(home, subject).read_text(encoding="utf-8"))
        is_known = seen is not None and (known["format"], known["signature"]) == (FORMAT, seen)
        return str(known["identity"]) if is_known else None
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or spoilt: the data is read once more
        return None


def remember(home: Path, subject: str, seen: str | None, identity: str) -> None:
    """Keep the identity of ``subject`` for :func:`recall`."""
    if seen is not None:
        content = {"format": FORMAT, "subject": subject, "signature": seen, "identity": identity}
        write_json(_file(home, subject), content)


def _file(home: Path, subject: str) -> Path:
    return home / "identities" / f"{hashlib.sha256(subject.encode(errors='surrogateescape')).hexdigest()[:16]}.json"
