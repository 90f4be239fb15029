"""Sweeps in a real PostgreSQL server: workers that are killed, a server that restarts, several machines, passwords."""

import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from landuse.errors import UserError
from landuse.sweeps import database
from landuse.sweeps.database import (
    KEY,
    TAKES_BACK_WITHIN_S,
    URL,
    DatabaseLocks,
    hide_password,
    open_database,
    shown_url,
)
from tests.conftest import Run
from tests.sweeps.postgres_server import PASSWORD, Server

pytest.importorskip("psycopg", reason="needs the extra postgres: pip install 'landuse[postgres]'")


NO_PRUNING = "hydra.sweeper.pruner.n_startup_trials=100"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.remove()


@pytest.fixture
def locks(server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[DatabaseLocks]:
    """Of two processes, as it were, which wait for each other less long."""
    monkeypatch.setattr(database, "COMES_BACK_S", 5 * database.PING_S)
    name = re.sub(r"\W", "_", request.node.name)
    url = server.new_database(name)
    return [DatabaseLocks(open_database(url)._backend.engine, "study") for _ in range(2)]  # type: ignore[attr-defined]


class Sweep:
    """The command in a process of its own."""

    def __init__(self, where: Path, name: str, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "landuse.sweep", "name=cnn_tpe", *arguments]
        self._errors = where / f"{name}.txt"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(command, cwd=where, stderr=errors)

    def wait(self) -> str:
        """What it wrote."""
        assert self.process.wait(240) == 0, self._errors.read_text()
        return self._errors.read_text()


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    started: list[Sweep] = []

    def start(*arguments: str) -> Sweep:
        started.append(Sweep(tmp_path, f"sweep-{len(started)}", list(arguments)))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def states(server: Server, database: str) -> list[str]:
    return [state for (state,) in server.query("SELECT state FROM trials ORDER BY number", database)]


def wait_for(server: Server, database: str, num_finished: int) -> None:
    deadline = time.monotonic() + 180
    while True:
        with suppress(Exception):  # before there are tables
            if states(server, database).count("COMPLETE") >= num_finished:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def leaderboard(where: Path) -> list[dict[str, str]]:
    with (where / "outputs/sweeps/cnn_tpe/leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def kill_a_worker(server: Server, database: str, where: Path) -> None:
    """In the middle of a trial."""
    query = (
        "SELECT value_json, number FROM trial_user_attributes JOIN trials USING (trial_id) "
        "WHERE key = 'worker' AND state = 'RUNNING'"
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for worker, number in server.query(query, database):
            process = int(worker.strip('"').rpartition(":")[2])
            os.kill(process, signal.SIGSTOP)
            if not (where / f"outputs/sweeps/cnn_tpe/trials/{number}/summary.json").is_file():
                os.kill(process, signal.SIGKILL)
                return
            os.kill(process, signal.SIGCONT)
    raise AssertionError("no trial was running")


@pytest.mark.slow
def test_four_workers_one_of_them_killed(
    server: Server, sweep: Callable[..., Sweep], tiny: list[str], tmp_path: Path
) -> None:
    started = sweep("workers=4", "n_trials=8", f"storage={server.new_database('killed')}", NO_PRUNING, *tiny)
    wait_for(server, "killed", 1)
    sessions = server.query("SELECT 1 FROM pg_stat_activity WHERE datname = 'killed' AND application_name = 'landuse'")
    command_lines = "".join(path.read_text() for path in worker_command_lines(started.process.pid))
    kill_a_worker(server, "killed", tmp_path)
    errors = started.wait()

    found = states(server, "killed")
    assert found.count("COMPLETE") == 8 and found.count("FAIL") == 1 and len(found) == 9
    [killed] = [row for row in leaderboard(tmp_path) if row["state"] == "failed"]
    keys = [key for key in killed if key.startswith(("trainer.", "model."))]
    finished = [row for row in leaderboard(tmp_path) if row["state"] == "complete"]
    assert [killed[key] for key in keys] in [[row[key] for key in keys] for row in finished]  # tried again
    assert "its process was killed" in errors
    assert len(sessions) <= 4 * 5  # four of each process, the supervisor's included
    assert "hydra.sweeper.storage=${oc.env:" in command_lines and PASSWORD not in command_lines
    assert not files_with(PASSWORD, tmp_path)  # what the command wrote to stderr included


def worker_command_lines(parent: int) -> list[Path]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [Path("/proc", child, "cmdline") for child in children]


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.slow
def test_two_supervisors_and_a_restart_of_the_server(
    server: Server, sweep: Callable[..., Sweep], tiny: list[str]
) -> None:
    arguments = ["workers=2", "n_trials=8", f"storage={server.new_database('shared')}", NO_PRUNING]
    machines = [sweep(*arguments, *tiny) for _ in range(2)]  # at once, on a database without tables
    wait_for(server, "shared", 2)
    server.stop()
    time.sleep(2)
    server.start()
    errors = [machine.wait() for machine in machines]

    assert states(server, "shared") == ["COMPLETE"] * 8  # none was lost with its lock
    assert all("8 of 8 trials finished (8 complete)" in error for error in errors), errors


def test_a_lock_is_held_once(locks: list[DatabaseLocks]) -> None:
    mine, theirs = locks
    assert mine.acquire(3, wait=False) and not mine.acquire(3, wait=False) and not theirs.acquire(3, wait=False)
    assert theirs.acquire(4, wait=False)
    mine.release(3)
    assert theirs.acquire(3, wait=False)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["restart", "disconnection"])
def test_locks_are_taken_back(server: Server, locks: list[DatabaseLocks], how: str) -> None:
    mine, theirs = locks
    mine.acquire(3, wait=True)
    if how == "restart":
        server.stop()
        server.start()
    else:
        server.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    assert theirs.take_abandoned([2, 3]) == [2]
    mine.release(3)
    assert theirs.take_abandoned([3]) == [3]


@pytest.mark.parametrize("seconds", [0.3, 2 * TAKES_BACK_WITHIN_S])
def test_a_lock_that_another_holds_for_a_moment_is_taken_back(locks: list[DatabaseLocks], seconds: float) -> None:
    """As one who looks for abandoned trials does, just when the connection is made anew."""
    mine, theirs = locks
    assert theirs.acquire(3, wait=False)
    timer = threading.Timer(seconds, lambda: theirs.release(3))
    timer.start()
    with mine._turn:
        mine._held.add(3)
        mine._connected()
    timer.join()
    deadline = time.monotonic() + database.COMES_BACK_S
    while mine._missing and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not theirs.acquire(3, wait=False)


def test_a_process_that_is_killed_lets_go(server: Server, locks: list[DatabaseLocks]) -> None:
    url = server.url("test_a_process_that_is_killed_lets_go")
    program = (
        "import sys, time; from landuse.sweeps.database import DatabaseLocks, open_database\n"
        "DatabaseLocks(open_database(sys.argv[1])._backend.engine, 'study').acquire(7, wait=True)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert locks[0].take_abandoned([7]) == []
    process.kill()
    process.communicate()
    assert locks[0].take_abandoned([7]) == [7]


@pytest.mark.parametrize(
    ("wrong", "cause", "cure"),
    [
        ({"password": "guess"}, "password authentication failed", "PGPASSWORD"),
        ({"database": "elsewhere"}, 'database "elsewhere" does not exist', "createdb"),
        ({"host": "nowhere.invalid"}, "nowhere.invalid", "correct the host"),
        ({"port": "1"}, "refused", "start the server"),
        ({"port": "one"}, "cannot be read", "postgresql://USER@HOST:PORT/DATABASE"),
    ],
)
def test_what_is_wrong_with_a_url(server: Server, wrong: dict[str, str], cause: str, cure: str) -> None:
    right = {"password": PASSWORD, "database": "postgres", "host": "127.0.0.1", "port": str(server.port)}
    parts = right | wrong
    is_under_way = cause != "refused"  # which alone is waited for
    with pytest.raises(UserError) as caught:
        open_database("postgresql://sweeps:{password}@{host}:{port}/{database}".format(**parts), is_under_way)
    message = str(caught.value)
    assert cause in message and cure in message and "\n" not in message and parts["password"] not in message


def test_what_begins_while_the_server_is_away_waits_for_it(server: Server) -> None:
    """A trial, or a worker that takes the place of another."""
    url = server.new_database("away")
    server.stop()
    starting = threading.Timer(1, server.start)
    try:
        with pytest.raises(UserError, match="start the server"):
            open_database(url)  # what the user starts is told at once
    finally:
        starting.start()
    storage = open_database(url, is_under_way=True)
    starting.join()
    assert storage.get_all_studies() == []
    storage._backend.engine.dispose()  # type: ignore[attr-defined]


def test_the_command_says_so_in_one_line(
    server: Server, command: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, "")  # and what the command sets is undone
    url = server.url("postgres", password="guess")
    result = command("train", "--multirun", "+sweeps=cnn_tpe", f"{KEY}={url}", *tiny)
    assert result.status == 2 and result.err.count("\n") == 1 and "guess" not in result.err


def test_passwords_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "")
    for override in (f"{KEY}=postgresql://me@host/db", f"{KEY}=null", "model=cnn"):
        assert hide_password(override) == override and not os.environ[URL]
    assert hide_password(f"{KEY}='postgresql://me:secret@host/db'") == f"{KEY}=${{oc.env:{URL}}}"
    assert os.environ[URL] == "postgresql://me:secret@host/db"
    assert shown_url("postgresql://me:p@ss@host:1/db") == "postgresql://me:***@host:1/db"
    assert shown_url("postgresql://host/db?user=me&password=secret&sslmode=require") == (
        "postgresql://host/db?user=me&password=***&sslmode=require"
    )
