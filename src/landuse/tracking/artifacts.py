"""Models by their name in W&B: fetched once, checked against checksums, kept."""

import errno
import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from landuse.config.validate import LONGEST_S
from landuse.errors import UserError, printable
from landuse.files import read_mapping, rename, write_json

log = logging.getLogger(__name__)

PREFIX = "wandb:"
FORM = re.compile(r"wandb:(?P<entity>[\w.-]+)/(?P<project>[\w.-]+)/(?P<name>[\w.-]+):(?P<alias>[\w.-]+)")
CHECKSUMS, ALIASES = "checksums.json", "aliases.json"
HTTP_TIMEOUT = "WANDB_HTTP_TIMEOUT"
CARD = "model/README.md"  # an evaluation writes it anew
GONE = re.compile(r"not found|does not exist|\b404\b", re.IGNORECASE)  # what W&B says of an artifact that is no more
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
LARGEST = 10_000_000  # bytes of the files that are kept beside
LONGEST_REASON = 300  # characters


def fetch(address: str, home: Path, timeout_s: float) -> Path:
    """The run folder that a W&B artifact holds, below ``home``.

    What the alias means is asked of W&B each time. Where that cannot be reached, the version is taken that it meant
    last time, with a warning.

    Args:
        address: ``wandb:entity/project/name:alias``; the alias may be a version such as v3.
        timeout_s: of a request, in seconds.

    Raises:
        UserError: the address is none, W&B does not have it or cannot be reached, or what is kept was changed.
    """
    if not 0 < timeout_s <= LONGEST_S:
        raise UserError(f"tracking.timeout_s={timeout_s}: must lie between 0 and {LONGEST_S:,} seconds.")
    if (found := FORM.fullmatch(address)) is None or {*found.groups()} & {".", ".."}:
        raise UserError(f"run={address}: must be of the form wandb:entity/project/name:alias.")
    place = home / "wandb" / found["entity"] / found["project"] / found["name"]
    try:
        artifact = _find(address.removeprefix(PREFIX), timeout_s)
    except Exception as error:  # W&B's library raises anything
        version = read_mapping(place / ALIASES, LARGEST).get(found["alias"])
        is_gone = GONE.search(str(error)) is not None
        if is_gone or not isinstance(version, str) or not (place / version).is_dir():
            raise UserError(f"run={address} cannot be had from W&B ({_reason(error)}).{_cure(error)}") from error
        log.warning("W&B cannot be asked what %s is now (%s): taken as %s", address, _reason(error), version)
        return _checked(place / version)
    folder = place / str(artifact.version)
    if not folder.is_dir():
        log.info("fetching    %s (%s)", address, artifact.version)
        _download(artifact, folder, address)
    write_json(place / ALIASES, read_mapping(place / ALIASES, LARGEST) | {found["alias"]: folder.name})
    return _checked(folder)


def is_fetched(folder: Path) -> bool:
    """Whether this run folder was fetched from W&B, which therefore has it."""
    return (folder / CHECKSUMS).is_file()


def _find(name: str, timeout_s: float) -> Any:
    import wandb

    seconds = max(1, round(timeout_s))
    given = os.environ.get(HTTP_TIMEOUT)
    os.environ[HTTP_TIMEOUT] = given or str(seconds)  # else the key is verified in 10 s or not at all
    try:
        return wandb.Api(timeout=seconds).artifact(name)
    finally:
        if given is None:
            del os.environ[HTTP_TIMEOUT]


def _download(artifact: Any, folder: Path, address: str) -> None:
    if artifact.type != "model":
        raise UserError(f"run={address} is of the type {artifact.type}: name an artifact of the type model.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
        target = Path(temporary) / "run"
        try:
            artifact.download(root=str(target), skip_cache=True)
            artifact.verify(root=str(target))  # against the checksums that it was sent with
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK:  # said by the command
                raise
            raise UserError(f"run={address} could not be fetched ({_reason(error)}): try again.") from error
        files = sorted(path for path in target.rglob("*") if path.is_file())
        if not (target / "config.yaml").is_file() or not (target / "model" / "model.json").is_file():
            raise UserError(f"run={address} is no model of landuse: it has no config.yaml or no model/model.json.")
        names = [path.relative_to(target).as_posix() for path in files]
        write_json(target / CHECKSUMS, {name: _sha256(target / name) for name in names if name != CARD})
        try:
            rename(target, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise


def _checked(folder: Path) -> Path:
    """
    Raises:
        UserError: a file is not what was fetched.
    """
    checksums = read_mapping(folder / CHECKSUMS, LARGEST)
    for name, digest in (checksums or {CHECKSUMS: ""}).items():
        path = folder / name
        if not path.is_file() or _sha256(path) != digest:
            raise UserError(f"{path} is not what was fetched: remove {folder}, it is fetched anew.")
    return folder.resolve()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return printable(" ".join(str(error).split()) or type(error).__name__, LONGEST_REASON).rstrip(".")


def _cure(error: Exception) -> str:
    if "api_key" in str(error) or type(error).__name__ in ("AuthenticationError", "UsageError"):
        return " Log in with `wandb login`, or set WANDB_API_KEY."
    return " Check the name and the network."
