"""provenance.json: which code, data, configuration and machine made a run."""

import hashlib
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from landuse.config.schema import Config
from landuse.data.pack import Pack
from landuse.runs import comparable, to_tree
from landuse.training.device import Runtime


def collect(config: Config, pack: Pack, runtime: Runtime, command_line: str) -> dict[str, Any]:
    """All that a later reader needs to repeat a run, as JSON-able values."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command_line": command_line,
        "seed": config.seed,
        "config_hash": config_hash(config),
        "data_fingerprint": pack.data_fingerprint,
        "split_fingerprint": pack.split_fingerprint,
        **git_state(Path(__file__).parent),
        "lock_hash": lock_hash(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if runtime.device.type == "cuda" else None,
        "platform": platform.platform(),
        "hardware": runtime.describe(),
    }


def config_hash(config: Config) -> str:
    """SHA-256 of the resolved configuration, without what says where a run is done: equal runs have equal hashes."""
    return hashlib.sha256(json.dumps(comparable(to_tree(config)), sort_keys=True).encode()).hexdigest()


def git_state(folder: Path) -> dict[str, Any]:
    """Commit and whether files differ from it, new ones included; both None outside a git checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain")
    return {"git_commit": commit or None, "git_dirty": bool(status) if commit else None}


def lock_hash() -> str | None:
    """SHA-256 of requirements.lock, where the code runs from a checkout that has one."""
    lock = Path(__file__).resolve().parents[3] / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
