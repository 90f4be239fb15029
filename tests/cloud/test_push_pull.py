"""DVC itself pushes to and pulls from the place that the preflight found good."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import Checkout, Emulator

NUM_FILES = 36


def run(root: Path, *arguments: str) -> str:
    """A command in the checkout, as from a shell."""
    # Without the variable gcsfs asks Google's gRPC endpoint, which no emulator has, and repeats that for a minute.
    environment = os.environ | {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        arguments, cwd=root, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_push_wipe_pull(command, checkout: Checkout, emulator: Emulator, monkeypatch) -> None:
    emulator.put("round-trip")
    root, dvc = checkout.root / "project", (sys.executable, "-m", "dvc")
    root.mkdir()
    run(root, "git", "init", "--quiet")
    (root / ".dvc").mkdir()
    settings = f"url = gs://round-trip/data\n endpointurl = {emulator.url}\n allow_anonymous_login = true"
    (root / ".dvc" / "config").write_text(f"[core]\n remote = storage\n['remote \"storage\"']\n {settings}\n")
    draws = np.random.default_rng(0)
    for i in range(NUM_FILES):
        path = root / "images" / f"class{i % 3}" / f"{i:03d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draws.bytes(int(draws.integers(1, 5000))))
    before = content(root / "images")

    monkeypatch.chdir(root)
    done = command("storage", "storage.needs=write", "storage.timeout_s=60")
    assert done.status == 0, done.err
    assert "the bucket is empty" in done.out

    run(root, *dvc, "add", "--quiet", "images")
    run(root, *dvc, "push")
    shutil.rmtree(root / "images")
    shutil.rmtree(root / ".dvc" / "cache")
    run(root, *dvc, "pull")
    assert content(root / "images") == before

    done = command("storage", "storage.timeout_s=60")
    assert "there are objects under gs://round-trip/data" in done.out
