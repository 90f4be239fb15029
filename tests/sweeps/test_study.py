"""A study that several processes work on, without a training: claimed, told, killed between any two steps, resumed."""

import csv
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from landuse.errors import SweepFailedError, UserError
from landuse.sweeps.objective import objectives
from landuse.sweeps.plan import Plan
from landuse.sweeps.space import parse_space
from landuse.sweeps.study import MAX_KILLED, Sweep, first_points

from .plans import kill, leave_run, make_plan, run_on


def states(sweep: Sweep) -> list[str]:
    return [trial.state for trial in sweep.record().trials]


def points(sweep: Sweep, *wanted: str) -> list[tuple]:
    return [tuple(t.params.values()) for t in sweep.record().trials if not wanted or t.state in wanted]


def test_to_the_end_and_no_further(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path), "one")
    assert run_on(sweep) == 4
    assert states(sweep) == ["complete"] * 4
    again = Sweep(make_plan(tmp_path), "two")
    assert again.claim() is None and len(states(again)) == 4


def test_more_and_fewer_trials(tmp_path: Path) -> None:
    run_on(Sweep(make_plan(tmp_path), "one"))
    assert run_on(Sweep(make_plan(tmp_path, n_trials=2), "two")) == 0
    assert run_on(Sweep(make_plan(tmp_path, n_trials=6), "three")) == 2


def test_what_runs_is_not_handed_out_again(tmp_path: Path) -> None:
    one, other = Sweep(make_plan(tmp_path, n_trials=3), "one"), Sweep(make_plan(tmp_path, n_trials=3), "one")
    claimed = [one.claim(), other.claim(), one.claim()]
    assert [trial.number for trial in claimed] == [0, 1, 2]
    assert one.claim() is None and other.claim() is None
    one.fail(0, "no luck")
    assert other.claim().number == 3
    assert points(one)[3] != points(one)[0]


def test_pruned_trials_count_and_failed_ones_do_not(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, n_trials=2), "one")
    sweep.claim().report(0.1, 1)
    sweep.prune(0)
    sweep.claim()
    sweep.fail(1, "RuntimeError: no luck")
    assert run_on(sweep) == 1
    assert states(sweep) == ["pruned", "failed", "complete"]
    assert sweep.record().trials[0].epochs == 1
    assert sweep.record().trials[1].reason == "RuntimeError: no luck"
    assert (sweep.run_folder(1) / "error.txt").read_text() == "RuntimeError: no luck\n"


def test_a_failed_trial_is_told_though_its_folder_cannot_be_written(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path), "one")
    sweep.run_folder(sweep.claim().number).parent.touch()
    sweep.fail(0, "no room", "Traceback ...")
    assert states(sweep) == ["failed"]


def test_the_traceback_in_a_failed_trials_folder_stays(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path), "one")
    run = sweep.run_folder(sweep.claim().number)
    run.mkdir(parents=True)
    (run / "error.txt").write_text("Traceback ...")
    sweep.fail(0, "no luck")
    assert (run / "error.txt").read_text() == "Traceback ..."


def test_too_many_failures_end_this_start(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, max_failures=1), "one")
    for number in range(2):
        sweep.claim()
        sweep.fail(number, f"failure {number}")
    with pytest.raises(SweepFailedError, match=r"More than max_failures=1 trials failed: 2.*trial 1, failure 1"):
        sweep.claim()
    assert run_on(Sweep(make_plan(tmp_path, max_failures=1), "two")) == 4


def test_an_interrupted_point_is_the_next(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path), "one")
    sweep.claim()
    sweep.fail(0, "the sweep was interrupted", is_fault=False, queue_again=True)
    assert states(sweep) == ["interrupted", "waiting"] and not (sweep.run_folder(0) / "error.txt").exists()
    again = Sweep(make_plan(tmp_path), "two")
    assert again.claim().params == dict(zip(again.plan.space.distributions, points(again)[0], strict=True))
    again.raise_if_too_many_failed()


@pytest.mark.parametrize("session", ["one", "two"])
def test_a_killed_process_costs_one_trial_which_is_queued_again(tmp_path: Path, session: str) -> None:
    """It is a failure where the sweep goes on around it, and none where all of it was stopped."""
    killed = Sweep(make_plan(tmp_path), "one")
    killed.claim()
    kill(killed)
    sweep = Sweep(make_plan(tmp_path), session)
    assert run_on(sweep) == 4
    assert states(sweep) == ["failed" if session == "one" else "interrupted", *["complete"] * 4]
    assert points(sweep)[0] == points(sweep)[1]
    assert (sweep.run_folder(0) / "error.txt").is_file() == (session == "one")


def test_a_worker_stopped_with_the_sweep_before_its_trial_began_is_no_failure(tmp_path: Path) -> None:
    stopped = Sweep(make_plan(tmp_path), "one")
    stopped.claim()
    kill(stopped)
    supervisor = Sweep(make_plan(tmp_path), "one")
    supervisor.take_in_abandoned(is_fault=False)
    assert states(supervisor) == ["interrupted", "waiting"] and not (supervisor.run_folder(0) / "error.txt").exists()


def test_a_point_that_kills_is_given_up(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, max_failures=10)
    for _ in range(MAX_KILLED):
        killed = Sweep(plan, "one")
        killed.claim()
        kill(killed)
    sweep = Sweep(plan, "one")
    assert run_on(sweep) == 4
    assert Counter(points(sweep, "failed")) == {points(sweep)[0]: MAX_KILLED}
    assert points(sweep)[0] not in points(sweep, "complete")


def test_a_point_that_kills_a_launchers_processes_is_given_up_as_well(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, max_failures=10), "one")
    for number in range(MAX_KILLED):
        assert sweep.claim().number == number
        sweep.fail(number, "its process was killed", queue_again=True)
    assert states(sweep) == ["failed"] * MAX_KILLED and len(set(points(sweep))) == 1


def test_a_result_that_is_told_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where the connection to a database breaks once it is written there."""
    sweep = Sweep(make_plan(tmp_path), "one")
    sweep.claim()
    tell = sweep._study._storage.set_trial_state_values

    def twice(*arguments: object) -> bool:
        tell(*arguments)
        return tell(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sweep._study._storage, "set_trial_state_values", twice)
        sweep.complete(0, [0.5], [0.5])
    assert states(sweep) == ["complete"] and not sweep._locks._held


@pytest.mark.parametrize("status", ["completed", "pruned"])
def test_a_run_that_ended_before_its_process_was_killed_is_kept(tmp_path: Path, status: str) -> None:
    killed = Sweep(make_plan(tmp_path), "one")
    killed.claim()
    leave_run(killed, 0, status, accuracy=0.75)
    kill(killed)
    sweep = Sweep(make_plan(tmp_path), "two")
    sweep.take_in_abandoned()
    first = sweep.record().trials[0]
    assert first.state == ("complete" if status == "completed" else "pruned")
    assert first.values == ((0.75,) if status == "completed" else ())
    assert run_on(sweep) == 3


def test_a_trial_that_ends_while_abandoned_ones_are_looked_for(tmp_path: Path, monkeypatch) -> None:
    """It is in the list of running trials, and its lock is free by the time that this is tried."""
    one, other = Sweep(make_plan(tmp_path), "one"), Sweep(make_plan(tmp_path), "one")
    one.claim()
    acquire = other._locks.acquire

    def after_it_ended(number: int, *, wait: bool) -> bool:
        if number == 0 and states(one) == ["running"]:
            one.complete(0, [0.5], [])
        return acquire(number, wait=wait)

    monkeypatch.setattr(other._locks, "acquire", after_it_ended)
    other.take_in_abandoned()
    assert states(other) == ["complete"]
    assert 0 not in other._locks._held


def test_runs_of_a_study_that_is_gone_are_left_alone(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    run_on(Sweep(plan, "one"))
    (plan.folder / "study.journal").unlink()
    with pytest.raises(UserError, match=r"trials has runs of a study that is gone: .*study_name=NAME"):
        Sweep(plan, "two")
    assert not list(plan.folder.glob("trials/*/error.txt"))


GRID = ("a=1,2", "b=x,y")


def test_a_grid_is_tried_once_each(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, *GRID, sampler="grid"), "one")
    assert run_on(sweep) == 4
    assert points(sweep) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert run_on(Sweep(make_plan(tmp_path, *GRID, sampler="grid"), "two")) == 0


def test_points_of_a_grid_that_differ_little_are_several(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, "seed=1000000,1000001,1000002", sampler="grid", n_trials=3), "one")
    assert run_on(sweep) == 3


def test_a_grid_comes_back_to_what_failed_when_it_is_started_again(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, *GRID, sampler="grid"), "one")
    sweep.claim()
    sweep.fail(0, "the disk was full")
    assert run_on(Sweep(make_plan(tmp_path, *GRID, sampler="grid"), "one")) == 3  # a worker of the same start
    again = Sweep(make_plan(tmp_path, *GRID, sampler="grid"), "two")
    assert run_on(again) == 1
    assert sorted(points(again, "complete")) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_the_numbers_of_a_grid_are_those_that_were_written(tmp_path: Path) -> None:
    """3 * 0.1 is more than 0.3, and out of range."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep = Sweep(make_plan(tmp_path, "a=range(0,0.4,0.1)", sampler="grid"), "one")
        run_on(sweep)
    assert points(sweep) == [(0.0,), (0.1,), (0.2,), (0.3,)]


def test_part_of_a_grid(tmp_path: Path) -> None:
    assert run_on(Sweep(make_plan(tmp_path, *GRID, sampler="grid", n_trials=3), "one")) == 3
    sweep = Sweep(make_plan(tmp_path, *GRID, sampler="grid", n_trials=4), "two")
    assert run_on(sweep) == 1 and points(sweep)[3] == (2, "y")


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "nsgaii"])
def test_a_seeded_sampler_repeats_itself_in_another_folder_and_never_in_one(tmp_path: Path, sampler: str) -> None:
    """However often it is stopped in between."""
    whole = Sweep(make_plan(tmp_path / "whole", sampler=sampler, n_trials=8), "one")
    run_on(whole)
    for number in (2, 5, 8):
        parts = Sweep(make_plan(tmp_path / "parts", sampler=sampler, n_trials=number), f"to {number}")
        run_on(parts)
    assert points(parts) == points(whole)
    assert len(set(points(whole))) == 8


def test_the_first_points_are_what_the_sweep_begins_with(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, sampler="tpe", n_trials=3)
    announced = first_points(plan, 5)
    assert not plan.folder.exists()
    sweep = Sweep(plan, "one")
    run_on(sweep)
    assert [trial.params for trial in sweep.record().trials] == announced


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": parse_space({}, ["lr=interval(0.1,0.8)", "width=range(1,100)"])}, "another space (lr: float("),
        ({"space": parse_space({}, ["lr=interval(0.1,0.9)"])}, "width: int("),
        ({"objectives": objectives("val/loss", "val/loss")}, "another objective (val/accuracy: maximize then"),
        ({"base": {"seed": 1}}, "another configuration (seed: 0 then, 1 now)"),
        ({"base": {"seed": 0, "trainer.lr": None}}, "trainer.lr: nothing then, None now"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path, change: dict, message: str) -> None:
    plan = make_plan(tmp_path)
    Sweep(plan, "one").claim()
    with pytest.raises(UserError) as caught:
        Sweep(replace(plan, **change), "two")
    assert message in str(caught.value)
    assert "choose another hydra.sweeper.study_name=NAME" in str(caught.value)
    assert run_on(Sweep(plan, "three")) == 4


def test_another_direction_is_refused_though_the_first_start_was_killed_before_it_named_its_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Sweep, "_agree", lambda _: None)
        Sweep(plan, "one")
    with pytest.raises(UserError, match=r"another objective \(directions: maximize then, nothing now; val/loss"):
        Sweep(replace(plan, objectives=objectives("val/loss", "val/loss")), "two")
    assert run_on(Sweep(plan, "three")) == 4


def test_sampler_pruner_and_numbers_may_change(tmp_path: Path) -> None:
    run_on(Sweep(make_plan(tmp_path), "one"))
    assert run_on(Sweep(make_plan(tmp_path, sampler="tpe", n_trials=6, max_failures=0), "two")) == 2


def test_a_folder_that_was_moved(tmp_path: Path) -> None:
    run_on(Sweep(make_plan(tmp_path / "here"), "one"))
    (tmp_path / "here").rename(tmp_path / "there")
    sweep = Sweep(make_plan(tmp_path / "there", n_trials=5), "two")
    assert run_on(sweep) == 1
    assert {Path(trial.run).parent for trial in sweep.record().trials} == {tmp_path / "there/s/trials"}


def test_the_leaderboard(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, "w='a, b','x'", "o=1,null", sampler="grid"), "one")
    sweep.claim()
    sweep.fail(0, "no luck")
    for value in (0.25, 0.75):
        sweep.complete(sweep.claim().number, [value], [value])
    sweep.publish()
    with (sweep.plan.folder / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["trial", "state", "value", "epochs", "seconds", "run", "w", "o"]
    assert [row[:4] for row in rows[1:]] == [
        ["2", "complete", "0.75", "1"], ["1", "complete", "0.25", "1"], ["3", "waiting", "", "0"],
        ["0", "failed", "", "0"],
    ]  # fmt: skip
    assert rows[2][6:] == ["'a, b'", "null"]


def test_large_values_stay_exact(tmp_path: Path) -> None:
    sweep = Sweep(make_plan(tmp_path, objectives=objectives("parameters", "val/accuracy")), "one")
    sweep.complete(sweep.claim().number, [12345678.0], [])
    sweep.publish()
    assert ",complete,12345678,0," in (sweep.plan.folder / "leaderboard.csv").read_text()


class Killed(BaseException):
    """The process is gone."""


def work(plan: Plan, session: str) -> Sweep:
    """As a worker does: of the trials one is pruned, one fails, one is interrupted, and the others complete."""
    sweep = Sweep(plan, session)
    try:
        while (trial := sweep.claim()) is not None:
            kind = {1: "prune", 2: "fail", 3: "interrupt"}.get(trial.number)
            if kind == "prune":
                trial.report(0.1, 1)
                leave_run(sweep, trial.number, "pruned")
                sweep.prune(trial.number)
            elif kind is not None:
                sweep.fail(trial.number, kind, is_fault=kind == "fail", queue_again=kind == "interrupt")
            else:
                leave_run(sweep, trial.number)
                sweep.complete(trial.number, [0.5], [0.5])
    except Killed:
        kill(sweep)
        raise
    return sweep


@pytest.mark.parametrize("sampler", ["random", "grid"])
@pytest.mark.parametrize("is_written", [False, True])
def test_killed_before_and_after_every_line_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, is_written: bool
) -> None:
    """Whatever was recorded is there afterwards, and the same start again comes to exactly as many trials."""
    append, left = JournalFileBackend.append_logs, [0]

    def mortal(self: JournalFileBackend, logs: list) -> None:
        left[0] -= 1
        if left[0] == 0 and not is_written:
            raise Killed
        append(self, logs)
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(JournalFileBackend, "append_logs", mortal)
    monkeypatch.setattr("os.fsync", lambda _: None)  # a process is killed, not the machine
    swept = GRID if sampler == "grid" else ("a=interval(0.1,0.9)", "b=interval(0.1,0.9)")
    num_killed, at = 0, 0
    while num_killed == at:
        at += 1
        plan = make_plan(tmp_path / str(at), *swept, sampler=sampler, max_failures=9)
        left[0] = at
        try:
            work(plan, "one")
        except Killed:
            num_killed += 1
        left[0] = 0
        sweep = work(plan, "two")
        if sampler == "grid":  # it comes back to a point that failed
            sweep = work(plan, "three")
            assert sorted(set(points(sweep, "complete", "pruned"))) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
        assert sweep.record().num_finished == 4, f"killed at line {at}"
        assert not sweep.record().count("running", "waiting")
    assert num_killed > 40
