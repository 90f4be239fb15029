"""A W&B server for the commands of a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .wandb_server import KEY, Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """One that works, to which the user is logged in."""
    (tmp_path / "home").mkdir()
    with serving() as state:
        for name, value in {"BASE_URL": state.url, "API_KEY": KEY, "MODE": "online"}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield state
        assert not state.unknown, state.unknown
