"""Metrics that a sweep optimises, and how they are read from a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from landuse.errors import PrunedError, UserError
from landuse.sweeps.objective import DIRECTIONS, Objective, objectives, read_curve, read_values
from landuse.sweeps.records import SweepRecord, TrialRecord


def test_a_metric_has_its_direction() -> None:
    assert objectives(None, "val/loss") == [Objective("val/loss", "minimize")]
    assert objectives("parameters", "val/accuracy") == [Objective("parameters", "minimize")]
    both = objectives(["val/accuracy", "train_seconds"], "val/accuracy")
    assert [objective.direction for objective in both] == ["maximize", "minimize"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("accuracy", "no such metric. Choose from val/accuracy"),
        (3, "=3: no such metric"),
        ({"a": 1}, "no such metric"),
        ([["val/accuracy"]], "no such metric"),
        ("val/loss", "name it once, as trainer.monitor=val/loss"),
        ([], "give each metric once"),
        (["parameters", "parameters"], "give each metric once"),
    ],
)
def test_mistakes(named: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        objectives(named, "val/accuracy")
    assert message in str(caught.value)


def summary(run: Path, **content: Any) -> Path:
    (run / "summary.json").write_text(json.dumps({"status": "completed", "val/accuracy": 0.5, **content}))
    return run


def test_values_of_a_finished_run(tmp_path: Path) -> None:
    named = objectives(["val/accuracy", "parameters"], "val/accuracy")
    assert read_values(summary(tmp_path, parameters=7), named) == [0.5, 7.0]


@pytest.mark.parametrize(
    "content", [{"status": "interrupted"}, {"status": "failed"}, {"val/accuracy": None}, {"val/accuracy": float("nan")}]
)
def test_a_run_without_a_result(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the run ended as|val/accuracy is"):
        read_values(summary(tmp_path, **content), objectives(None, "val/accuracy"))


def test_a_run_that_was_pruned_is_told_from_one_that_failed(tmp_path: Path) -> None:
    with pytest.raises(PrunedError, match="after epoch 2"):
        read_values(summary(tmp_path, status="pruned", epochs=2), objectives(None, "val/accuracy"))


def test_a_latency_that_cannot_be_measured_costs_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(_run: Path) -> float:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("landuse.sweeps.latency.measure", out_of_memory)
    with pytest.raises(ValueError, match="latency_ms cannot be measured: out of memory"):
        read_values(summary(tmp_path), objectives("latency_ms", "val/accuracy"))


def test_no_run_and_half_a_run(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"summary\.json"):
        read_values(tmp_path, objectives(None, "val/accuracy"))
    (tmp_path / "summary.json").write_text('{"status": "comp')
    with pytest.raises(ValueError, match="Unterminated"):
        read_values(tmp_path, objectives(None, "val/accuracy"))
    assert read_curve(tmp_path, "val/loss") == []
    (tmp_path / "metrics.jsonl").write_text('{"val/loss": 2.5}\n{"val/loss": 1}\n')
    assert read_curve(tmp_path, "val/loss") == [2.5, 1.0]


def record(named: list[str], *values: tuple[float, ...]) -> SweepRecord:
    trials = [TrialRecord(i, "complete", {}, pair) for i, pair in enumerate(values)]
    return SweepRecord("s", [Objective(name, DIRECTIONS[name]) for name in named], [], len(trials), trials)


def test_the_best_of_one_objective_and_the_front_of_two() -> None:
    assert record(["val/loss"], (0.5,), (0.2,), (0.2,)).best()[0].number == 1
    front = record(["val/accuracy", "parameters"], (0.9, 100), (0.8, 50), (0.8, 60), (0.7, 50), (0.9, 100)).best()
    assert [trial.number for trial in front] == [0, 4, 1]
    assert record(["val/accuracy"]).best() == []
