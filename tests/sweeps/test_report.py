"""The report of a sweep tells the result, hides no failure, and stands whatever the records hold."""

import logging
import warnings
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from landuse.page import drawing
from landuse.sweeps.objective import Objective
from landuse.sweeps.records import State, SweepRecord, TrialRecord
from landuse.sweeps.report import keys, write_report
from landuse.sweeps.report.axes import MARKS, MAX_CATEGORIES, scale_of
from landuse.sweeps.report.importance import importances
from landuse.sweeps.report.reading import NothingToDraw, epochs_saved, reached
from tests.pages import Page

ACCURACY, LOSS = Objective("val/accuracy", "maximize"), Objective("val/loss", "minimize")
PARAMETERS, LATENCY = Objective("parameters", "minimize"), Objective("latency_ms", "minimize")
HOSTILE = "<script>alert('x')</script>\n\"><img src=//evil>"
NOON = datetime(2025, 3, 1, 12)
FIGURES = ["curves", "history", "importance", "parallel", "slices", "timeline"]
EPOCHS = 8


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of fewer pixels take less time."""
    monkeypatch.setattr(drawing, "DPI", 40)


def trial(number: int, state: State = "complete", *values: float, **changes: Any) -> TrialRecord:
    epochs = {"complete": EPOCHS, "waiting": 0}.get(state, 3)
    started = NOON + timedelta(minutes=number)
    found = TrialRecord(
        number=number,
        state=state,
        params={"trainer.lr": 10 ** -(1 + number % 7 / 2), "augment": ("none", "light", "strong")[number % 3]},
        values=(values or (0.5 + 0.01 * number,)) if state == "complete" else (),
        curve={epoch: 0.05 + 0.05 * epoch + 0.001 * number for epoch in range(1, epochs + 1)},
        worker=f"host:{number % 2}",
        started=started,
        ended=None if state in ("running", "waiting") else started + timedelta(seconds=90),
    )
    return replace(found, **changes)


def sweep(trials: list[TrialRecord], *objectives: Objective, swept: list[str] | None = None) -> SweepRecord:
    return SweepRecord("night", list(objectives) or [ACCURACY], swept or ["trainer.lr", "augment"], 20, trials)


def mixed() -> list[TrialRecord]:
    """One or more trials in each state."""
    return [*map(trial, range(12)), trial(12, "pruned"), trial(13, "pruned"), trial(14, "failed", reason="no memory"),
            trial(15, "interrupted"), trial(16, "running"), trial(17, "waiting", started=None)]  # fmt: skip


def report(record: SweepRecord, folder: Path, retrain: str | None = None) -> Page:
    """Write it with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_report(record, folder, retrain)
    assert path == folder / "sweep.html"
    return Page(path)


def drawn(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "figures").glob("*"))


def test_the_result_is_told(tmp_path: Path) -> None:
    page = report(sweep(mixed()), tmp_path, "python -m landuse.train 'name=a b'")
    for expected in (
        "Sweep night", "61.00 %", "by trial 11 with trainer.lr=0.001 augment=strong",
        "14 of 20 trials finished: 12 completed, 2 pruned.",
        "Besides: 1 failed, 1 interrupted, 1 running, 1 waiting, 4 still to begin.",
        "All together trained 111 epochs. Pruning saved about 10 more", "python -m landuse.train 'name=a b'",
        "1 min 30 s", "8 more trials",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert drawn(tmp_path) == FIGURES
    assert len(page.attributes("img")) == len(FIGURES)
    assert all(image["alt"] for image in page.attributes("img"))


def test_failures_come_first_with_their_reasons(tmp_path: Path) -> None:
    trials = [trial(0), trial(1, "failed", reason="Traceback\n  File x\nValueError: loss is nan"), trial(2, "failed")]
    page = report(sweep(trials), tmp_path)
    assert page.text.index("ValueError: loss is nan") < page.text.index("Best trial")
    assert "2 trials failed; they do not count" in page.text
    assert "No reason is on record." in page.text
    assert "Failures" not in report(sweep([trial(0)]), tmp_path).text


def test_a_long_reason_keeps_its_end(tmp_path: Path) -> None:
    lines = [f"frame {i}" for i in range(50)]
    page = report(sweep([trial(0, "failed", reason="\n".join([*lines, "KeyError: lr", "x" * 5000]))]), tmp_path)
    assert "KeyError: lr" in page.text
    assert "frame 3" not in page.text
    assert "x" * 500 not in page.text


def test_links_lead_to_files_that_exist(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    run = folder / "runs" / "a #1"
    run.mkdir(parents=True)
    (run / "report.html").touch()
    (run / "error.txt").touch()
    trials = [trial(0, run=str(run)), trial(1, run=str(folder / "gone")), trial(2, "failed", run=str(run))]
    page = report(sweep(trials), folder)
    links = {link["href"] for link in page.attributes("a")}
    assert {link for link in links if not (link or "").startswith("#")} == {
        "runs/a%20%231/report.html",
        "runs/a%20%231/error.txt",
    }


def test_a_relative_run_folder_is_one_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "report.html").touch()
    page = report(sweep([trial(0, run="outputs")]), Path("sweeps/night"))
    assert "../../outputs/report.html" in {link["href"] for link in page.attributes("a")}


def test_what_comes_from_records_is_escaped(tmp_path: Path) -> None:
    hostile = trial(0, params={HOSTILE: HOSTILE}, worker=HOSTILE, run=HOSTILE)
    failed = trial(1, "failed", params={HOSTILE: "\udcff"}, reason=HOSTILE)
    record = replace(sweep([hostile, failed], swept=[HOSTILE]), name=HOSTILE)
    page = report(record, tmp_path, HOSTILE)
    assert not page.attributes("script")
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.attributes("img"))
    assert page.text.count("<script>") >= 5
    for name, attributes in page.tags:
        assert name not in {"link", "iframe", "object", "embed", "base"}
        assert not any(key.startswith("on") for key in attributes)


@pytest.mark.parametrize("objectives", [[ACCURACY, PARAMETERS], [LOSS, PARAMETERS, LATENCY], [PARAMETERS, LATENCY]])
def test_several_objectives_have_a_front(objectives: list[Objective], tmp_path: Path) -> None:
    # The first objective falls as the others do: no trial beats another, but for the last, which all beat.
    sign = 1 if objectives[0].direction == "maximize" else -1
    trials = [trial(i, "complete", 50 + sign * i, *[1000.0 + i] * (len(objectives) - 1)) for i in range(12)]
    trials.append(trial(12, "complete", 50 - sign, *[5000.0] * (len(objectives) - 1)))
    page = report(sweep(trials, *objectives), tmp_path, "again")
    assert "12 trials are on the Pareto front" in page.text
    assert "To train trial 11, the first, again:" in page.text
    assert drawn(tmp_path) == sorted([*FIGURES, "pareto"])
    rows = [attributes.get("class") for attributes in page.attributes("tr")]
    assert rows.count("best") == 12


RECORDS = {
    "nothing": sweep([]),
    "one": sweep([trial(0)]),
    "two": sweep([trial(0), trial(1)]),
    "only failures": sweep([trial(i, "failed", curve={}, reason="no") for i in range(5)]),
    "only waiting": sweep([trial(0, "waiting", started=None, params={})]),
    "only pruned": sweep([trial(i, "pruned") for i in range(3)]),
    "equal values": sweep([trial(i, "complete", 0.5, params={"trainer.lr": 1, "augment": "none"}) for i in range(12)]),
    "one key": sweep(mixed(), swept=["augment"]),
    "a key that no trial has": sweep(mixed(), swept=["augment", "model.width"]),
    "a key that one trial lacks": sweep([*map(trial, range(12)), trial(12, params={"augment": "none"})]),
    "no times": sweep([replace(found, started=None, ended=None) for found in mixed()]),
    "a clock set back": sweep([trial(0, ended=NOON - timedelta(hours=1))]),
    "what is monitored is no objective": sweep([trial(0, "complete", 3.5), trial(1, "pruned")], LATENCY),
    "several, of pruned trials": sweep([trial(0, "pruned")], ACCURACY, PARAMETERS),
    "values of all kinds": sweep(
        [trial(i, params={"k": [1, 0.5, True, None, "a", "1"][i % 6], "n": i}) for i in range(12)], swept=["k", "n"]
    ),
    "many long categories": sweep([trial(i, params={"k": f"{i} " + "long" * 50}) for i in range(30)], swept=["k"]),
    "a diverged loss": sweep(
        [trial(i, "complete", 10.0**i, curve={1: 1.0, 2: 10.0**i, 3: float("nan")}) for i in range(5)], LOSS
    ),
    "a value of zero": sweep([trial(i, params={"trainer.lr": 0.1 * i}) for i in range(12)], swept=["trainer.lr"]),
}  # fmt: skip


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_any_records_give_a_page(record: SweepRecord, tmp_path: Path) -> None:
    page = report(record, tmp_path, "again")
    assert len(page.attributes("img")) == len(drawn(tmp_path))
    headings = [attributes.get("id") for attributes in page.attributes("h2")]
    assert {f"{name}-heading" for name in ("best", "leaderboard", "progress", "keys", "timeline")} <= set(headings)


def test_what_is_too_little_for_a_figure_gives_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "history.png").touch()  # of an earlier sweep
    page = report(sweep([]), tmp_path)
    assert drawn(tmp_path) == []
    for sentence in ("No trial has been started.", "No trial has finished an epoch.", "No trial has a start on record.",
                     "can be told from 10 completed trials on; there are 0"):  # fmt: skip
        assert sentence in page.text


def test_many_trials_of_many_keys_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DPI", 200)
    names = [f"group.key_{i}" for i in range(10)]
    trials = [
        trial(i, params={name: (i * (7 + j) % 300) / 300 for j, name in enumerate(names)}) for i in range(300)
    ]  # fmt: skip
    keys.parallel(sweep(trials, swept=names), names, tmp_path / "parallel.png")
    assert (tmp_path / "parallel.png").stat().st_size < drawing.MAX_BYTES


def test_long_tables_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landuse.sweeps.report.sections.MAX_ROWS", 12)
    monkeypatch.setattr("landuse.sweeps.report.sections.MAX_FAILURES", 2)
    page = report(sweep([*map(trial, range(25)), *(trial(i, "failed") for i in range(25, 28))]), tmp_path)
    assert "and 6 more in leaderboard.csv" in page.text
    assert "and 1 more in leaderboard.csv" in page.text


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(sweep(mixed()), tmp_path / name, None)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_key_that_decides_is_the_important_one(caplog: pytest.LogCaptureFixture) -> None:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.enable_propagation()
    params = [{"decides": i / 40, "idle": i * 7 % 40 / 40, "choice": i % 2 == 0, "same": 1} for i in range(40)]
    trials = [trial(i, "complete", 1 - (point["decides"] - 0.3) ** 2, params=point) for i, point in enumerate(params)]
    swept = ["same", "choice", "idle", "decides"]
    try:
        with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
            warnings.simplefilter("error")
            found = importances(sweep(trials, swept=swept))
            turned = importances(sweep([replace(t, values=(-t.values[0],)) for t in trials], LOSS, swept=swept))
    finally:
        optuna.logging.disable_propagation()
    assert next(iter(found)) == "decides"
    assert found["decides"] > 0.5
    assert found["same"] == 0
    assert sum(found.values()) == pytest.approx(1)
    assert found == pytest.approx(turned)  # the least loss is as good as the greatest accuracy
    assert not caplog.records
    assert optuna.logging.get_verbosity() == verbosity


def test_importance_is_not_made_up() -> None:
    with pytest.raises(NothingToDraw, match="there are 9"):
        importances(sweep([trial(i) for i in range(9)]))
    with pytest.raises(NothingToDraw, match="same values"):
        importances(sweep([trial(i, "complete", 0.5) for i in range(20)]))
    with pytest.raises(NothingToDraw, match="no key"):
        importances(sweep([trial(i, params={"augment": "none"}) for i in range(20)]))


def test_epochs_that_pruning_saved() -> None:
    pruned = trial(1, "pruned")  # after 3 epochs
    assert epochs_saved(sweep([trial(0), pruned, trial(2, "failed")])) == EPOCHS - 3
    assert epochs_saved(sweep([pruned])) == 0  # nobody knows how long it was to be
    planned = replace(pruned, params={"trainer.epochs": 30})
    assert epochs_saved(sweep([trial(0), planned])) == 27


def test_a_trial_that_ended_early_stands_at_its_best_epoch() -> None:
    found = trial(0, "pruned", curve={1: 0.2, 2: 0.7, 3: float("nan"), 4: 0.5})
    assert reached(found, 0, ACCURACY) == 0.7
    assert reached(found, 0, LOSS) == 0.2
    assert reached(found, 1, PARAMETERS) is None
    assert reached(trial(1, "complete", 0.9, 44.0), 1, PARAMETERS) == 44


def test_scales_of_keys() -> None:
    assert scale_of([1e-4, 1e-1]).is_log
    assert not scale_of([1e-1, 1]).is_log
    assert not scale_of([0, 1000]).is_log
    assert scale_of([1e-4, 1e-2, 1]).share(1e-2) == pytest.approx(0.5)
    assert scale_of([32, 64, 128]).steps() == [32, 64, 128]
    assert scale_of([32, 33, 128]).steps() == []  # their labels would lie upon each other
    assert scale_of([7, 7]).share(7) == 0.5
    assert scale_of([7, 7]).ticks() == [(0.5, "7")]
    assert scale_of([True, False]).categories == ["False", "True"]
    assert scale_of([10, None, 9, "b", "a"]).categories == ["9", "10", "a", "b", "null"]
    crowd = scale_of(["often", *(f"c{i}" for i in range(30)), "often"])
    assert len(crowd.categories) == MAX_CATEGORIES
    assert "often" in crowd.categories
    assert crowd.categories[-1] == "20 others"
    assert crowd.place("c29") == MAX_CATEGORIES - 1


def test_states_are_told_apart_without_colour() -> None:
    assert len({mark.marker for mark in MARKS.values()}) == len(MARKS)
    assert len({mark.hatch for mark in MARKS.values()}) == len(MARKS)


def test_seeds_are_told_together(tmp_path: Path) -> None:
    values = {("light", 0): 0.8, ("light", 1): 0.9, ("none", 0): 0.7, ("none", 1): 0.7, ("strong", 0): 0.5}
    trials = [
        trial(number, "complete", value, params={"augment": augment, "seed": seed})
        for number, ((augment, seed), value) in enumerate(values.items())
    ]
    page = report(sweep(trials, swept=["augment", "seed"]), tmp_path)
    assert "85.00 %" in page.text and "7.07 %" in page.text  # of 0.8 and 0.9: mean, and deviation of the sample
    assert "Over seeds" in page.text
    assert "Over seeds" not in report(sweep(mixed()), tmp_path).text
