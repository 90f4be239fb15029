"""Several runs beside each other: the statistics, and the page of real runs."""

import csv
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from landuse.evaluation.comparing.pairs import against_best
from landuse.evaluation.comparing.statistics import PairedDifference, holm, mean_interval, paired
from tests.conftest import Run, overrides
from tests.pages import Page
from tests.run_folders import commands, load


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
        (2, 10, 2 * (1 + 12 + 66) / 2**12),
        (6, 0, 2 / 2**6),
    ],
)
def test_mcnemar_is_exact(only_first: int, only_second: int, p: float) -> None:
    assert PairedDifference(1000, only_first, only_second).p_value == pytest.approx(p, rel=1e-9)


def test_mcnemar_of_many_images_is_a_number() -> None:
    assert PairedDifference(10**6, 50_000, 50_000).p_value == pytest.approx(1.0)
    # 1000 / sqrt(99000) = 3.178 standard deviations of the normal distribution, which so many are near to.
    assert PairedDifference(10**6, 49_000, 50_000).p_value == pytest.approx(2 * 0.000742, rel=0.02)
    assert PairedDifference(10**6, 10_000, 50_000).p_value < 1e-300


def test_the_interval_holds_the_difference_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    first = draws.random((2000, 300)) < 0.9
    second = np.where(draws.random(first.shape) < 0.8, first, draws.random(first.shape) < 0.8)
    truth = 0.2 * (0.8 - 0.9)
    intervals = [paired(a, b).interval for a, b in zip(first, second, strict=True)]
    assert 0.94 < np.mean([low <= truth <= high for low, high in intervals]) < 0.97


def test_paired_counts() -> None:
    found = paired(np.array([True, True, False, False]), np.array([True, False, True, True]))
    assert (found.num_images, found.only_first, found.only_second, found.difference) == (4, 1, 2, 0.25)
    with pytest.raises(ValueError, match="the same images"):
        paired(np.array([True]), np.array([True, False]))


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_mean_interval() -> None:
    assert mean_interval([0.90, 0.92, 0.94]) == pytest.approx((0.92, 0.92 - 0.04969, 0.92 + 0.04969), abs=1e-5)


@pytest.fixture(scope="module")
def made(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three evaluated runs: two seeds, and one that learnt next to nothing."""
    where = tmp_path_factory.mktemp("compared")
    for name, change in {"a": "seed=1", "b": "seed=2", "weak": "trainer.lr=1e-6"}.items():
        commands(where, ["train", *overrides(image_folder, where), change, f"run_name={name}"], ["evaluate"])
    return where


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """Copies of them."""
    shutil.copytree(made / "outputs", tmp_path / "outputs", symlinks=True)
    return tmp_path / "outputs/train/folder_cnn"


def test_a_comparison_of_real_runs(command: Run, runs: Path, tmp_path: Path) -> None:
    done = command("report", f"runs={runs}/*")
    assert done.status == 0, done.err
    content = comparison(tmp_path, "a-vs-b-vs-weak")
    (folder,) = (tmp_path / "outputs/comparisons").iterdir()
    right = {}
    for name in ("a", "b", "weak"):
        with (runs / name / "predictions.csv").open(newline="") as file:
            right[name] = {row["path"]: row["label"] == row["prediction"] for row in csv.DictReader(file)}
        assert content["runs"][name]["test"]["accuracy"] == np.mean(list(right[name].values()))
    best = right[content["best"]]
    for name, found in content["against_best"].items():
        assert found["only_first"] == sum(best[path] and not right[name][path] for path in best)
        assert found["only_second"] == sum(right[name][path] and not best[path] for path in best)
    assert content["not_compared"] == {} and set(content["against_best"]) == {"a", "b", "weak"} - {content["best"]}
    text = (folder / "report.html").read_text()
    page = Page(folder / "report.html")
    assert "trainer.lr" in text and "Over seeds" in text and "hardware.precision" not in text
    assert page.text.count("McNemar") == 1 and "data:image/png" in text


def comparison(where: Path, name: str) -> dict:
    (path,) = where.glob(f"outputs/comparisons/{name}-{'?' * 8}/comparison.json")
    return load(path)


def test_what_cannot_be_compared_is_left_out(command: Run, runs: Path, tmp_path: Path) -> None:
    (runs / "weak/evaluation.json").unlink()
    lines = (runs / "b/predictions.csv").read_text().splitlines(keepends=True)
    shutil.copytree(runs / "b", runs / "other")
    (runs / "other/predictions.csv").write_text("".join([lines[0], "other/" + lines[1], *lines[2:]]))
    done = command("report", f"runs={runs}/*")
    assert done.status == 0, done.err
    content = comparison(tmp_path, "a-vs-b-vs-other-vs-others")
    assert "not evaluated on the test split" in content["not_compared"]["weak"]
    assert "was evaluated on other images" in content["not_compared"]["other"]
    assert {content["best"], *content["against_best"]} == {"a", "b"}
    (runs / "a/predictions.csv").unlink()
    assert command("report", f"runs=[{runs}/a,{runs}/b]").status == 0
    content = comparison(tmp_path, "a-vs-b")
    assert content["best"] is None and "has no predictions.csv" in content["not_compared"]["a"]


def test_predictions_of_another_evaluation(command: Run, runs: Path) -> None:
    header = (runs / "b/predictions.csv").read_text().splitlines(keepends=True)[0]
    (runs / "b/predictions.csv").write_text(header)
    done = command("report", f"runs=[{runs}/a,{runs}/b]")
    assert done.status == 2 and "is not of the evaluation beside it" in done.err, done.err


def test_a_false_alarm_is_rare_though_the_best_is_chosen_on_the_same_images(tmp_path: Path) -> None:
    """Ten equal runs, 200 times: the best against the others, of which none is worse."""
    draws = np.random.default_rng(0)
    labels = np.zeros(300, np.int64)
    alarms = 0
    for _ in range(200):
        rights = sorted((draws.random((10, 300)) < 0.85), key=lambda right: -right.sum())
        compared = [SimpleNamespace(predictions=SimpleNamespace(predicted=~right, labels=labels)) for right in rights]
        alarms += any(pair.p_corrected < 0.05 for pair in against_best(compared))  # type: ignore[arg-type]
    assert alarms <= 10


def test_seeds_are_counted_once(command: Run, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "b", runs / "copy")
    assert command("report", f"runs=[{runs}/a,{runs}/b,{runs}/copy]").status == 0
    (page,) = tmp_path.glob("outputs/comparisons/*/report.html")
    groups = re.search(r"Over seeds</h3>.*?<tbody>(.*?)</tbody>", page.read_text(), re.S)
    assert groups and "copy" not in groups[1] and ">2</td>" in groups[1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["runs=nowhere/*"], "there is no run folder of that name"),
        (["runs=[{runs}/a]"], "two are needed"),
        (["runs=[{runs}/a,{runs}/none]"], "no such folder"),
        (["runs=[{runs}/a,{runs}/b]", "run={runs}/a"], "leave out run="),
        (["runs=[{runs}/a,{runs}/b]", "check"], "leave out run="),
    ],
)
def test_runs_that_cannot_be_compared(command: Run, runs: Path, arguments: list[str], problem: str) -> None:
    done = command("report", *(argument.format(runs=runs) for argument in arguments))
    assert done.status == 2 and problem in done.err, done.err


def test_runs_of_one_name_are_told_apart(command: Run, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "b", tmp_path / "elsewhere/a")
    assert command("report", f"runs=[{runs}/a,{tmp_path}/elsewhere/a]").status == 0
    assert set(comparison(tmp_path, "a-vs-a")["runs"]) == {"folder_cnn/a", "elsewhere/a"}
