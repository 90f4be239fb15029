"""A misbehaving server, and no waiting between tries."""

from collections.abc import Iterator

import pytest

from landuse.data.fetch import transfer

from .site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, in seconds, that a download would have made between two tries."""
    made: list[float] = []
    monkeypatch.setattr(transfer, "pause", made.append)
    return made
