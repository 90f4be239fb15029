"""docker/gcp/cloud.py, run in this process."""

import importlib
import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "docker" / "gcp" / "cloud.py"
PROJECT = "cloud.project=my-project"
sys.path.insert(0, str(TOOL.parent))  # as Python does for a script


class Done(NamedTuple):
    """How the script ended."""

    status: int
    out: str
    err: str


def tool(*words: str, **environment: str) -> Done:
    """Run the script in this process; nobody is logged in, for a dry run needs no account."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LANDUSE_CLOUD", "GOOGLE_"))}
    clean |= {"HOME": "/nonexistent", "CLOUDSDK_CONFIG": "/nonexistent", "NO_GCE_CHECK": "true"} | environment
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, clean, clear=True), redirect_stdout(out), redirect_stderr(err):
        status = importlib.import_module("cloud").main(list(words))
    return Done(status, out.getvalue(), err.getvalue())
