"""provenance.json: which code, data, configuration and machine made a run."""

import hashlib
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from landuse.config.schema import Config
from landuse.data.pack import Pack
from landuse.files import read_text, require_shallow
from landuse.runs import comparable, read_config, to_tree
from landuse.training.checkpoint import TrainState, find
from landuse.training.device import Runtime

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "pillow", "torchvision")  # decode, resize and draw, so results depend on them as on torch
LARGEST_UNTRACKED = 2**20  # bytes; of larger files, and behind the first so many, sizes stand for contents
MOST_UNTRACKED = 1000
LARGEST = 50_000_000  # bytes of a provenance.json, which may be a stranger's
PARTS_DEPTH = 2  # levels by which what is taken over from there lies deeper in the new one
# What an earlier stretch of a resumed run was made with.
OF_A_STRETCH = ("git_commit", "git_dirty", "git_diff_hash", "source_hash", "hardware")


def collect(config: Config, pack: Pack, runtime: Runtime, command_line: str) -> dict[str, Any]:
    """All that a later reader needs to repeat a run, as JSON-able values."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command_line": command_line,
        "seed": config.seed,
        "config_hash": config_hash(to_tree(config)),
        "data_fingerprint": pack.data_fingerprint,
        "split_fingerprint": pack.split_fingerprint,
        "initial_weights": _file_hash(config.model.weights),
        **git_state(PACKAGE),
        "version": _version("landuse"),
        "source_hash": source_hash(PACKAGE),
        "lock_hash": lock_hash(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda if runtime.device.type == "cuda" else None,
        "platform": platform.platform(),
        "hardware": runtime.describe(),
    }


def config_hash(tree: dict[str, Any]) -> str:
    """SHA-256 of a resolved configuration, without what says where a run is done: equal runs have equal hashes."""
    return hashlib.sha256(json.dumps(comparable(tree), sort_keys=True).encode()).hexdigest()


def git_state(folder: Path) -> dict[str, Any]:
    """Commit, whether files differ from it, new ones included, and what identifies those differences.

    All are None outside a git checkout; ``git_diff_hash`` is None in a clean one as well. A container's image has no
    checkout: LANDUSE_GIT_COMMIT in its environment is the commit it was built of, with ``-dirty`` for one with changes.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    built = re.fullmatch("([0-9a-f]{7,64})(-dirty)?", os.environ.get("LANDUSE_GIT_COMMIT", ""))
    if built and not commit:
        return {"git_commit": built[1], "git_dirty": built[2] is not None, "git_diff_hash": None}
    status = _git(folder, "status", "--porcelain") if commit else None
    changes = _changes(folder) if status else None
    return {"git_commit": commit or None, "git_dirty": bool(status) if commit else None, "git_diff_hash": changes}


def _changes(folder: Path) -> str | None:
    """SHA-256 of ``git diff HEAD`` and of the files that are neither committed nor ignored: names and contents."""
    root = _git(folder, "rev-parse", "--show-toplevel")
    diff = _git(folder, "diff", "HEAD", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv")
    new = _git(Path(root), "ls-files", "--others", "--exclude-standard", "-z") if root else None
    if root is None or diff is None or new is None:
        return None
    digest = hashlib.sha256(_bytes(diff))
    for number, name in enumerate(sorted(filter(None, new.split("\0")))):
        digest.update(b"\0" + _bytes(name) + b"\0" + _content(Path(root, name), is_read=number < MOST_UNTRACKED))
    return digest.hexdigest()


def _content(path: Path, is_read: bool) -> bytes:
    """A file's bytes, or what stands for them: the target of a link, the size of what is large."""
    try:
        if path.is_symlink():
            return os.fsencode(path.readlink())
        size = path.stat().st_size if path.is_file() else 0
        return path.read_bytes() if is_read and 0 < size <= LARGEST_UNTRACKED else str(size).encode()
    except OSError:  # gone, or not ours to read
        return b""


def source_hash(package: Path) -> str:
    """SHA-256 of the package's modules: what the code is, in a git checkout or outside one."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        content = path.read_bytes().replace(b"\r\n", b"\n")  # a checkout on Windows is of the same code
        digest.update(path.relative_to(package).as_posix().encode() + b"\0%d\0" % len(content) + content)
    return digest.hexdigest()


def resumed_from(config: Config, folder: Path, state: TrainState) -> list[dict[str, Any]] | None:
    """The checkpoints from which a run went on, oldest first, and what its parts before them were made with.

    Args:
        config: of the part that begins now.
        folder: the run folder, with the provenance.json of the part before.
        state: after the checkpoint was read; a run that begins anew has done no step.

    Returns:
        None for a run that was made in one go. ``changed`` are the keys of the configuration that differ from those of
        the part before, both values given; it is unknown, hence null, of a checkpoint of another run, also where that
        was copied into the folder and nothing else was written.
    """
    if state.global_step == 0:
        return None
    is_own = config.trainer.resume in ("auto", "unfinished")
    checkpoint = find(folder if is_own else Path(config.trainer.resume))
    origin = folder if is_own else checkpoint.parent.parent
    earlier = read(origin)
    entry = {
        "checkpoint": checkpoint.relative_to(folder).as_posix() if is_own else str(checkpoint),
        "epoch": state.epoch,
        "step": state.step,
        "changed": _changed(origin, config) if is_own and (origin / "config.yaml").is_file() else None,
        **{key: earlier.get(key) for key in OF_A_STRETCH},
    }
    before = earlier.get("resumed_from")
    return [*(before if isinstance(before, list) else []), entry]


def _changed(folder: Path, config: Config) -> dict[str, list[Any]]:
    then, now = comparable(read_config(folder)), comparable(to_tree(config))
    return {key: [then.get(key), now.get(key)] for key in sorted({*then, *now}) if then.get(key) != now.get(key)}


def read(folder: Path) -> dict[str, Any]:
    """The provenance of a run so far; empty where it has none that can be read."""
    try:
        content = json.loads(read_text(folder / "provenance.json", LARGEST))
        require_shallow(content, depth=PARTS_DEPTH)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def lock_hash() -> str | None:
    """SHA-256 of requirements.lock, where the code runs from a checkout or an image that has one."""
    lock = PACKAGE.parents[1] / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


def _file_hash(path: str | None) -> str | None:
    """SHA-256 of initial weights in a file or run folder; None of none and of torchvision's, which have a name."""
    given = Path(path or "").expanduser()
    for file in (given, given / "model.safetensors", given / "model" / "model.safetensors"):
        if path is not None and file.is_file():
            with file.open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, errors="surrogateescape", timeout=10,
            check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
