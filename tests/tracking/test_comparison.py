"""What is said of two runs that were made or came out differently."""

from typing import Any

import pytest
import torch

from landuse.tracking import comparison

RECORD: dict[str, Any] = {"epoch": 0, "train/loss": 1.5, "val/loss": 1.25, "seconds": 2.0, "images_per_second": 9.0}
COMMIT = {"git_commit": "a" * 40, "git_dirty": False, "git_diff_hash": None, "source_hash": "b" * 64, "version": "1"}


def said(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [str(difference) for difference in comparison.environment(then, now)]


@pytest.mark.parametrize(
    ("then", "now", "line"),
    [
        ({}, {}, None),
        ({"git_commit": "c" * 40}, {}, "now (the package's sources are the same)"),
        ({"git_commit": None}, {}, None),
        ({"git_diff_hash": "d" * 64, "git_dirty": True}, {"git_diff_hash": "e" * 64, "git_dirty": True}, None),
        ({"source_hash": "f" * 64}, {}, f"sources {'f' * 12} then, commit {'a' * 12}, sources {'b' * 12} now"),
        ({"source_hash": None, "git_commit": "c" * 40}, {}, f"commit {'c' * 12} then, commit {'a' * 12} now"),
        ({"source_hash": None}, {}, None),  # an older version's, of the same clean commit
        ({"source_hash": None, "git_dirty": True}, {"git_dirty": True}, "with uncommitted changes then"),
        ({"git_commit": None, "source_hash": "f" * 64}, {}, f"version 1 outside git, sources {'f' * 12} then"),
    ],
)  # fmt: skip
def test_code(then: dict[str, Any], now: dict[str, Any], line: str | None) -> None:
    lines = said(COMMIT | then, COMMIT | now)
    assert len(lines) == (line is not None)
    assert all(text.startswith("code: ") and line in text for text in lines if line)


def test_what_an_older_version_did_not_record_is_not_compared() -> None:
    now = COMMIT | {"packages": {"numpy": "2"}, "initial_weights": None, "hardware": {"device": "cpu", "new": 1}}
    assert said({"git_commit": "a" * 40, "git_dirty": False, "hardware": {"device": "cpu"}}, now) == []


def test_parts_of_a_resumed_run() -> None:
    part = {"epoch": 3, **COMMIT, "source_hash": "f" * 64, "hardware": {"num_threads": 1}}
    then = COMMIT | {"hardware": {"num_threads": 2}, "resumed_from": [part]}
    lines = said(then, COMMIT | {"hardware": {"num_threads": 2}})
    assert lines[0].startswith("code: up to epoch 3 commit ")
    assert lines[1] == "hardware: num_threads up to epoch 3 1 then, 2 now"


def test_configuration_shows_no_password() -> None:
    (difference,) = comparison.configuration({"data.archive.url": "https://me:secret@host/x?key=1"}, {})
    assert "secret" not in f"{difference} {difference.then}" and "key" not in str(difference.then)


def test_times_do_not_count() -> None:
    weights = {"w": torch.ones(2)}
    assert comparison.compare(([RECORD], weights), ([RECORD | {"seconds": 9.0}], weights)).identical


@pytest.mark.parametrize(
    ("change", "then", "now", "difference"),
    [
        ({"val/loss": 1.5}, 1.25, 1.5, 0.25),
        ({"val/loss": float("nan")}, 1.25, "nan", None),
        ({"val/loss": "text"}, 1.25, "text", None),
    ],
)
def test_first_metric(change: dict[str, Any], then: Any, now: Any, difference: float | None) -> None:
    later = RECORD | {"epoch": 1}
    first = comparison.compare(([RECORD, later], {}), ([RECORD, later | change], {})).first_metric
    assert first is not None
    assert (first.epoch, first.key) == (1, next(iter(change)))
    assert (first.then, first.now, first.difference) == (then, now, difference)


def test_what_one_of_two_did_not_record() -> None:
    """An older version knew fewer quantities; one that is gone is a difference."""
    more = RECORD | {"extra": 1}
    assert comparison.compare(([RECORD], {}), ([more], {})).identical
    first = comparison.compare(([more], {}), ([RECORD], {})).first_metric
    assert first is not None and (first.key, first.then, first.now) == ("extra", 1, "missing")


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (torch.zeros(()), torch.zeros(()), None),
        (torch.empty(0), torch.empty(0), None),
        (torch.full((2,), torch.nan), torch.full((2,), torch.nan), None),
        (torch.zeros(2), -torch.zeros(2), "0 in w"),  # another bit is another weight
        (torch.zeros(2), torch.tensor([0.0, -3.0]), "3 in w"),
        (torch.zeros(2), torch.tensor([0.0, torch.inf]), "not finite in w"),
        (torch.zeros(2), torch.zeros(3), "float32 [2] then, float32 [3] now in w"),
        (torch.zeros(2), None, "float32 [2] then, missing now in w"),
        (torch.tensor([1, 2]), torch.tensor([1, 7]), "5 in w"),
        (torch.tensor([True]), torch.tensor([False]), "1 in w"),
    ],
)
def test_weights(then: torch.Tensor, now: torch.Tensor | None, said: str | None) -> None:
    found = comparison.compare(([], {"w": then}), ([], {"w": now} if now is not None else {}))
    assert found.identical == (said is None)
    assert said is None or str(found.largest_weight) == said


def test_a_counter_is_no_large_weight() -> None:
    then = {"bn.num_batches_tracked": torch.tensor(4), "head.weight": torch.zeros(2)}
    now = {"bn.num_batches_tracked": torch.tensor(9), "head.weight": torch.full((2,), 0.5)}
    assert str(comparison.compare(([], then), ([], now)).largest_weight) == "0.5 in head.weight"
