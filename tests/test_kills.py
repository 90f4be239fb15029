"""One training that is killed several times, at random moments, ends as the one that was left alone."""

from pathlib import Path

import pytest

from benchmarks.kills import killed_against_whole


@pytest.mark.slow
def test_several_kills_leave_no_trace(tmp_path: Path) -> None:
    """A hundred: python -m benchmarks.kills."""
    done, different = killed_against_whole(tmp_path, kills=4, seed=3, overrides=["trainer.epochs=120"])
    assert done == 4
    assert different == []
