"""The benchmarks run and say what they promise; how fast anything is, is not tested."""

import json
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.images import write_pngs
from benchmarks.training import covered

TINY = ["data.image_size=32", "data.synthetic.images_per_class=5", "model.depth=2", "model.width=4"]
SUITE = {
    "training": ["pairs=1", *TINY],
    "data_path": ["pairs=1", "size=32", "per_class=10", "model.depth=2"],
    "preprocess": ["pairs=1", "counts=200", "tile=64", "size=32"],
    "startup": ["pairs=1", "data.synthetic.images_per_class=5"],
    "evaluation": ["pairs=1", *TINY],
    "features": ["pairs=1", *TINY],
    "growth": ["images=64,128", "classes=2,3", "sizes=64", "rounds=1"],
    "time_to_accuracy": ["runs=2", "experiment=pipeline", "target=0.0", "trainer.epochs=1", *TINY],
    "whole_run": ["pairs=1", "size=64", "per_class=5"],
}


def test_medians_and_ratios_of_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    report = measure.Report("one", {"px": 64})
    report.add("ours", "images/s", [30.0, 10.0, 20.0])
    report.ratio("ours / theirs", [30.0, 10.0, 20.0], [15.0, 10.0, 80.0])
    report.finish()
    content = json.loads((tmp_path / "outputs/benchmarks/one.json").read_text())
    assert content["settings"] == {"px": 64} and {"cpu", "cores", "torch"} <= content["machine"].keys()
    ours, ratio = content["results"]
    assert (ours["median"], ours["min"], ours["max"], ours["n"], ours["unit"]) == (20, 10, 30, 3, "images/s")
    assert ratio["values"] == [2, 1, 0.25]
    assert "ours / theirs" in capsys.readouterr().out


def test_what_is_compared_takes_turns_and_warms_up() -> None:
    calls: list[str] = []

    def call(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    assert measure.in_turn(2, lambda: call("a"), lambda: call("b")) == [[3, 5], [4, 6]]
    assert calls == ["a", "b"] * 3


def test_options_are_told_from_overrides() -> None:
    own, others = measure.split_options(["pairs=3", "model=cnn", "archive=x=y"], pairs=8, archive="")
    assert own == {"pairs": 3, "archive": "x=y"} and others == ["model=cnn"]


def test_a_process_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        measure.run_process(["-c", "raise SystemExit('no luck')"], tmp_path)
    done = measure.run_process(["-c", "print('x' * 3)"], tmp_path)
    assert done.output == "xxx\n" and done.seconds > 0 and done.peak_bytes > 0


def test_images_are_written_by_class(tmp_path: Path) -> None:
    assert write_pngs(tmp_path, 2, 16) == 42
    assert len(list(tmp_path.glob("*/*.png"))) == 42


def test_overlapping_spans_count_once() -> None:
    assert covered([(5, 6), (0, 2), (1, 4), (1, 2)]) == 5
    assert covered([]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITE)
def test_the_suite_runs(name: str, tmp_path: Path) -> None:
    done = measure.run_process(["-m", f"benchmarks.{name}", *SUITE[name], *_home(name, tmp_path)], tmp_path)
    assert f"outputs/benchmarks/{name}.json" in done.output
    results = json.loads((tmp_path / f"outputs/benchmarks/{name}.json").read_text())["results"]
    assert results and all(row["n"] >= 1 for row in results)


@pytest.mark.slow
def test_all_that_a_gpu_is_measured_by_runs_on_the_cpu(tmp_path: Path) -> None:
    """Tiny, and without torch's compiler, which takes minutes here; its JSONs do not overwrite each other."""
    tiny = ["pairs=1", "size=64", "batch=8", "workers=0", "per_class=5", "epochs=1"]
    options = [*tiny, "device=cpu", "models=cnn", "variants=resident,from_host"]
    measure.run_process(["-m", "benchmarks.gpu", *options], tmp_path)
    found = sorted(path.name for path in (tmp_path / "outputs/benchmarks/gpu").glob("*/outputs/benchmarks/*.json"))
    assert found == ["training.json"] * 2 + ["whole_run.json"]


@pytest.mark.slow
def test_drift_of_a_run_is_measured(tiny: list[str], tmp_path: Path) -> None:
    measure.run_process(["-m", "landuse.train", *tiny], tmp_path)
    options = ["run=outputs/latest", f"home={tmp_path}/data", "orders=2"]
    done = measure.run_process(["-m", "benchmarks.drift", *options], tmp_path)
    assert "windows without alarm" in done.output and "jpeg: until alarm" in done.output


def _home(name: str, folder: Path) -> list[str]:
    has_own = name in ("startup", "data_path", "growth", "preprocess", "time_to_accuracy", "whole_run")
    return [] if has_own else [f"data.home={folder / 'data'}"]
