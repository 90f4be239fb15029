"""The journal and the locks in a sweep's folder, and what processes that are killed leave of them."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import optuna
import pytest

from landuse.errors import UserError
from landuse.sweeps import database, storage
from landuse.sweeps.storage import FileLocks, check_url, exclusive, open_storage, shown_url


def study(folder: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="s", storage=open_storage(folder, None), load_if_exists=True)


def test_half_a_line_at_the_end_is_cut(tmp_path: Path) -> None:
    """At every length that a process which is killed as it writes may leave."""
    study(tmp_path).ask()
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for length in range(last + 1, len(whole), 9):
        journal.write_bytes(whole[:length])
        assert len(study(tmp_path).trials) == 0
        study(tmp_path).ask()
        assert len(study(tmp_path).trials) == 1
        assert all(line.endswith("}") for line in journal.read_text().splitlines())
        journal.write_bytes(whole)


def test_a_reader_that_saw_half_a_line_goes_on(tmp_path: Path) -> None:
    reader = study(tmp_path)
    with (tmp_path / "study.journal").open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    assert reader.trials == []
    writer = study(tmp_path)
    writer.ask()
    assert len(reader.trials) == len(writer.trials) == 1


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    study(tmp_path).ask()
    journal = tmp_path / "study.journal"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([lines[0], "garbage", *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=r"study\.journal is damaged .*study_name=NAME"):
        open_storage(tmp_path, None)


@pytest.mark.parametrize("damage", ["garbage", "", '{"op_code": 99}'])
def test_damage_at_the_end_is_found_before_anything_is_added(tmp_path: Path, damage: str) -> None:
    study(tmp_path).ask()
    journal = tmp_path / "study.journal"
    journal.write_text(journal.read_text() + damage + "\n")
    before = journal.read_bytes()
    with pytest.raises(UserError, match=r"study\.journal is damaged .*study_name=NAME"):
        study(tmp_path)
    assert journal.read_bytes() == before


def test_an_error_while_the_journal_is_locked_leaves_it_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a signal: what is recorded because of it must not wait for itself."""
    here = study(tmp_path)

    def interrupted(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_cut_half_line", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            here.ask()
    assert caught.value is not None  # its traceback still holds on to what was used
    here.ask()
    study(tmp_path).ask()


HOLD = """
import sys, time
from itertools import pairwise
from pathlib import Path
from landuse.sweeps.storage import FileLocks, _JournalLock
folder = Path(sys.argv[1])
lock = _JournalLock(folder / "study.journal") if sys.argv[2] == "journal" else FileLocks(folder)
lock.acquire(*([3] if sys.argv[2] == "trial" else []), **({"wait": True} if sys.argv[2] == "trial" else {}))
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("what", ["journal", "trial"])
def test_a_lock_ends_with_its_holder(tmp_path: Path, what: str) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path), what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            assert what == "journal" or not FileLocks(tmp_path).acquire(3, wait=False)
        finally:
            os.kill(holder.pid, signal.SIGKILL)
    started = time.monotonic()
    if what == "journal":
        study(tmp_path).ask()
    else:
        assert FileLocks(tmp_path).acquire(3, wait=False)
    assert time.monotonic() - started < 5


def test_locks_are_by_number_and_may_be_given_back_twice(tmp_path: Path) -> None:
    one, other = FileLocks(tmp_path), FileLocks(tmp_path)
    assert one.acquire(1, wait=False) and other.acquire(2, wait=False)
    assert not other.acquire(1, wait=False)
    one.release(1)
    one.release(1)
    assert other.acquire(1, wait=False)


def test_exclusive_ends_with_an_error(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    with pytest.raises(KeyError), exclusive(locks):
        raise KeyError
    with exclusive(FileLocks(tmp_path)):
        pass


def test_a_lock_is_given_back_though_a_signal_came_right_after_it_was_taken(tmp_path: Path, monkeypatch) -> None:
    acquire = storage.FileLock.acquire

    def interrupted(self: storage.FileLock, **arguments: float) -> None:
        acquire(self, **arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage.FileLock, "acquire", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught, exclusive(FileLocks(tmp_path)):
            pass
    assert caught.value is not None  # its traceback still holds on to the lock
    assert FileLocks(tmp_path).acquire(storage.ONE_AT_A_TIME, wait=False)


@pytest.mark.parametrize("url", ["sqlite:///x.db", "", "journal.log", "mysql://a:secret@b/c"])
def test_other_storages_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="postgresql://USER@HOST/DATABASE") as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


def test_no_password_is_shown() -> None:
    assert shown_url("postgresql://a:secret@b/c") == "postgresql://a:***@b/c"
    assert shown_url("postgresql://a@b/c") == "postgresql://a@b/c"
    assert shown_url("postgresql://a:sec/ret#?@b/c") == "postgresql://a:***@b/c"
    assert shown_url("postgresql://a:sec@ret@[::1/c") == "postgresql://a:***@[::1/c"
    assert shown_url("postgresql://a@b/c?sslpassword=x&PASSWORD=y") == "postgresql://a@b/c?sslpassword=***&PASSWORD=***"


@pytest.mark.parametrize("url", ["postgresql://a:se@cret@b/c", "postgresql://b:1/c?password=se@cret"])
def test_what_would_show_a_part_of_a_password_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="%40") as caught:
        check_url(url)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_connection_that_breaks_is_waited_for(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows are read, Optuna's error comes of SQLAlchemy's that a transaction is broken, and that one of it."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import OperationalError, PendingRollbackError

    monkeypatch.setattr(database, "PING_S", 0)
    broken = [OperationalError("SELECT", {}, Exception("the server is gone")), PendingRollbackError("roll back")]
    errors = [*broken[: depth + 1], *([StorageInternalError("in the commit")] if depth else [])]
    for before, error in pairwise(errors):
        error.__context__ = before
    answers = [errors[-1], "there"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert database._patiently(ask) == "there"
    answers.append(StorageInternalError("too long a value"))
    with pytest.raises(StorageInternalError):
        database._patiently(ask)
