"""Files that are either the old version or the new one, never half of it."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from landuse.errors import UserError

MAX_YAML = 100_000  # characters
MAX_DEPTH = 20  # of mappings and lists in what a run folder holds
RENAMES_ARE_HELD_UP = os.name == "nt"  # while anybody, a virus scanner for example, has one of the two names open
RENAME_WITHIN_S, RENAME_AGAIN_S = 3.0, 0.05

log = logging.getLogger(__name__)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder its final name; a file takes the place of one of that name.

    Windows refuses that while somebody reads either of them, which passes in a moment: there it is tried again.

    Raises:
        OSError: it cannot be renamed.
    """
    until = time.monotonic() + RENAME_WITHIN_S
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if not RENAMES_ARE_HELD_UP or time.monotonic() > until:
                raise
            time.sleep(RENAME_AGAIN_S)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what is written there takes the place of `path` when the block succeeds.

    The temporary file lies in the same folder because a rename is atomic only within one file system. When the block
    raises, it is removed and `path` stays as it was. The folder is created where missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of that name, a stranger's folder may hold a link to a file elsewhere
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # without it, a power cut can leave the new name on empty content
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading that may come from a stranger: a pipe would be waited for, and a device never ends.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is there, but no regular file.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    return path.open("rb")


def read_text(path: Path, largest: int) -> str:
    """The text of a file that may come from a stranger.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, has more than ``largest`` bytes, or is no UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it has more than {largest:,} bytes")
    return content.decode("utf-8")


def read_mapping(path: Path, largest: int) -> dict[str, Any]:
    """The object in a JSON file that may come from a stranger; empty where it cannot be read or is none."""
    try:
        content = json.loads(read_text(path, largest))
        require_shallow(content)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_own(path: Path, folder: Path, largest: int) -> bool:
    """Whether this is a regular file that lies in the folder itself, with at most so many bytes.

    In a stranger's folder a link may lead anywhere, and what is read through it could be shown or sent.
    """
    steps = [path, *path.parents]
    if folder not in steps or any(step.is_symlink() for step in steps[: steps.index(folder)]):
        return False
    return path.is_file() and path.stat().st_size <= largest


def parse_yaml(text: str) -> Any:
    """Plain values from YAML that may come from a stranger.

    Raises:
        ValueError: it is no YAML, or has what training writes never: tags, aliases, interpolations or deep nesting.
    """
    import yaml

    try:
        if len(text) > MAX_YAML:
            raise ValueError(f"it has more than {MAX_YAML:,} characters")
        loader, depth = getattr(yaml, "CSafeLoader", yaml.SafeLoader), 0  # where libyaml is there, ten times as fast
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH + 1:  # before it is built, which takes the stack
                raise ValueError(f"it is nested more than {MAX_DEPTH} times")
        content = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error).partition("\n")[0] or "it is nested too deeply") from error
    require_shallow(content)
    if not _is_plain(content):
        raise ValueError("it has dates, sets or bytes")
    if _has_interpolation(content):  # it could read the environment
        raise ValueError("it has an interpolation ${...}")
    return content


def require_shallow(value: object, depth: int = 0) -> None:
    """Refuse nesting that programs trip over.

    Raises:
        ValueError: there are more than ``MAX_DEPTH`` levels.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} times")
    for item in _items(value):
        require_shallow(item, depth + 1)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | dict | list | None) and all(map(_is_plain, _items(value)))


def _has_interpolation(value: object) -> bool:
    """Also where the text spells it by escapes."""
    return any(map(_has_interpolation, _items(value))) or (isinstance(value, str) and "${" in value)


def _items(value: object) -> tuple[object, ...]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return tuple(value) if isinstance(value, list | tuple | set) else ()


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        # What stands for bytes of a file name that are no UTF-8 becomes an escape, as JSON has them.
        temporary.write_text(text, encoding="utf-8", newline="\n", errors="backslashreplace")


def settle(folder: Path) -> None:
    """Have the disk keep everything below the folder, so that it may take a name that is trusted."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as written:
                os.fsync(written.fileno())


def made(folder: Path) -> Path:
    """The folder below ``data.home``, which is made where it is missing.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.home: {folder} cannot be made ({error.strerror}); choose another place.") from error
    return folder


@contextmanager
def locked(home: Path, name: str) -> Iterator[None]:
    """Hold ``<home>/locks/<name>.lock``; while another process holds it, wait. It ends with the process.

    Raises:
        UserError: the lock cannot be made.
    """
    from filelock import FileLock, Timeout

    path = made(home / "locks") / f"{name}.lock"
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is at it (%s); waiting until it is done", path)
            lock.acquire()
    except OSError as error:
        raise UserError(f"data.home: {path} cannot be made ({error.strerror}); choose another place.") from error
    try:
        yield
    finally:
        lock.release()
