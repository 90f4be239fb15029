"""What a profile leaves behind."""

import json
from pathlib import Path

import pytest

from landuse.training import profile
from tests.conftest import Run


def test_a_profile_of_a_real_training(command: Run, tiny: list[str], tmp_path: Path) -> None:
    done = command("train", *tiny, "trainer.epochs=1", "+debug=profiler", "run_name=x")
    assert done.status == 0, done.err
    folder = tmp_path / "outputs/train/folder_cnn/x/profile"
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    names = {event["name"] for event in events if "name" in event}
    assert {f"landuse::{part}" for part in (*profile.PARTS, profile.STEP)} <= names
    seconds = json.loads((folder / "step.json").read_text())["seconds"]
    assert set(seconds) == {*profile.PARTS, profile.STEP, "other"} and min(seconds.values()) >= 0
    assert seconds["forward"] > 0 and seconds["backward"] > 0
    assert "Self CPU" in (folder / "operators.txt").read_text()
    assert "backward " in done.err and "median of the steps" in done.err


def test_without_a_profile_parts_do_nothing() -> None:
    assert profile.part("forward") is profile.part("data")


def test_the_split_is_of_the_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    split = profile._Split(lambda: None)
    for number in range(6):
        with split.part(profile.STEP):
            for part, seconds in {"data": 1.0, "forward": 50.0 if number < 2 else 2.0}.items():
                with split.part(part):
                    now[0] += seconds
            now[0] += 0.5
    found = split.medians()
    assert (found["data"], found["forward"], found["backward"], found["other"], found["step"]) == (1, 2, 0, 0.5, 3.5)
    assert profile._Split(lambda: None).medians() == {}
