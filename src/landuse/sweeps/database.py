"""A study in PostgreSQL, and locks there, for workers on several machines.

A server that restarts, or a connection that breaks, costs waiting and not the sweep: what was asked of the database is
asked again, and locks are taken back before anybody takes their trials for abandoned.
"""

import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast
from zlib import crc32

from landuse.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

log = logging.getLogger(__name__)
T = TypeVar("T")

KEY = "hydra.sweeper.storage"
URL = "LANDUSE_SWEEP_STORAGE"  # in the environment: a URL that was given with its password
PATIENCE_S = 300.0  # for a server that is out of reach
PING_S = 1.0  # how soon a broken connection is noticed
COMES_BACK_S = 10 * PING_S  # by when a process that lives has taken its locks back, on a busy machine too
TAKES_BACK_WITHIN_S = PING_S  # a lock that another process holds for the moment in which it looks
LOGIN = re.compile(r"(//[^:/@]*:).*@")  # up to the last @, as a password is taken with a slash in it as well
OPTION = re.compile(r"(password=)[^&]+", re.IGNORECASE)  # sslpassword= too
# A machine that is gone without a word is noticed within a minute, on both sides.
CLIENT = {
    "connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
    "tcp_user_timeout": 60_000, "application_name": "landuse",
}  # fmt: skip
SERVER = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
CURES = {
    r"password authentication failed|no password supplied|role .* does not exist":
        "give the right user in the URL and the password in PGPASSWORD or ~/.pgpass",
    r"database .* does not exist": "make it (createdb), or correct the name at the end of the URL",
    r"resolve|translate host|Name or service|No address": "correct the host in the URL",
    r"refused|timeout|timed out|No route|unreachable|No such file":
        "start the server, or correct host and port in the URL; the server must accept connections from this machine",
    r"too many (clients|connections)|connection slots":
        "raise the server's max_connections (a worker takes up to four), or take fewer workers",
    r"permission denied": "let the user make tables there: GRANT CREATE ON SCHEMA public TO the user, by its owner",
    r"pg_hba": "let this user and machine in, in the server's pg_hba.conf",
}  # fmt: skip

# Waiting helps where a server does not answer or is full, and with nothing else.
FINAL = "|".join(pattern for pattern in CURES if not pattern.startswith(("refused", "too many")))


def hide_password(override: str) -> str:
    """An override of the command line, without the password of a storage.

    The URL moves to the environment, from where this process and those that it starts read it: command lines are seen
    by everybody on a machine, and are written down in many places.
    """
    key, _, value = override.partition("=")
    url = value.strip("'\"")
    if key.lstrip("+") != KEY or shown_url(url) == url:
        return override
    os.environ[URL] = url
    return f"{key}=${{oc.env:{URL}}}"


def shown_url(url: str) -> str:
    """Without a password."""
    return LOGIN.sub(r"\1***@", OPTION.sub(r"\1***", url))


def open_database(url: str, is_under_way: bool = False) -> "BaseStorage":
    """The storage of Optuna that is in a database; its tables are made where there are none.

    Args:
        is_under_way: the sweep could open it before, so that a server that does not answer is waited for.

    Raises:
        UserError: it cannot be reached or used, or the driver is not installed; the message has the cure.
    """
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, DBAPIError

    driver = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    # One connection is kept; those that the server has closed in the meantime are found out and replaced.
    options = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": -1, "connect_args": CLIENT}

    def connect() -> "BaseStorage":
        return cast("BaseStorage", _patient_storage()(RDBStorage(driver, engine_kwargs=options)))

    for attempts_left in reversed(range(5)):
        try:
            return _patiently(connect, FINAL) if is_under_way else connect()
        except ImportError as error:
            raise UserError("PostgreSQL needs its driver: pip install 'landuse[postgres]'.") from error
        except (DBAPIError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            if not isinstance(cause, DBAPIError):
                raise
            if not attempts_left or not re.search("already exists|duplicate key", str(cause.orig)):
                raise UserError(_problem(url, cause)) from error
            time.sleep(0.2)  # somebody makes the same tables at this moment
        except (ArgumentError, ValueError) as error:
            raise UserError(
                f"{KEY}={shown_url(url)} cannot be read: give postgresql://USER@HOST:PORT/DATABASE."
            ) from error
    raise AssertionError


class DatabaseLocks:
    """Advisory locks of PostgreSQL: a process that is killed, or a machine that is gone, lets go of them.

    They end with the connection, so all are on one that does nothing else. A thread looks after it: when it breaks,
    as at a restart of the server, another takes its place and the locks are taken back.
    """

    def __init__(self, engine: Any, study_name: str) -> None:
        self._engine, self._study = engine, crc32(study_name.encode()) - 2**31  # two signed 32-bit numbers name a lock
        self._held, self._connection = set[int](), None
        self._missing = set[int]()  # those of them that the present connection does not have yet
        self._turn = threading.RLock()  # of the thread that uses the connection
        threading.Thread(target=self._look_after, daemon=True).start()

    def acquire(self, number: int, *, wait: bool) -> bool:
        with self._turn:
            if number in self._held:  # which the database would give to the same connection once more
                return False
            if self._call("pg_advisory_lock" if wait else "pg_try_advisory_lock", number) is False:
                return False
            self._held.add(number)
            return True

    def release(self, number: int) -> None:
        with self._turn:
            self._held.discard(number)
            self._missing.discard(number)
            self._call("pg_advisory_unlock", number)

    def take_abandoned(self, numbers: Sequence[int]) -> list[int]:
        """Looks twice: who has lost the connection alone takes its locks back in between."""
        free = [number for number in numbers if self.acquire(number, wait=False)]
        if not free:
            return []
        for number in free:
            self.release(number)
        time.sleep(COMES_BACK_S)
        return [number for number in free if self.acquire(number, wait=False)]

    def _call(self, function: str, number: int) -> Any:
        def call() -> Any:
            try:
                names = (self._study, number)
                return self._connected().exec_driver_sql(f"SELECT {function}(%s, %s)", names).scalar()
            except BaseException:  # an interruption as well: nobody knows what the connection was about
                self._disconnect()
                raise

        return _patiently(call)

    def _connected(self) -> Any:
        if self._connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # closed when this is done with it, and not given to others
            self._connection = connection
            connection.exec_driver_sql(SERVER)
            self._missing = set(self._held)
            # Who looks for abandoned trials holds each lock for a moment. After it, one try at every look.
            self._take_back(connection, TAKES_BACK_WITHIN_S)
        return self._connection

    def _take_back(self, connection: Any, within_s: float) -> None:
        until, statement = time.monotonic() + within_s, "SELECT pg_try_advisory_lock(%s, %s)"
        while True:
            for number in sorted(self._missing):
                if connection.exec_driver_sql(statement, (self._study, number)).scalar():
                    self._missing.discard(number)
            if not self._missing or time.monotonic() >= until:
                return
            time.sleep(0.05)

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()

    def _look_after(self) -> None:
        while True:
            time.sleep(PING_S)
            with self._turn:
                if not self._held:
                    continue
                try:
                    connection = self._connected()
                    connection.exec_driver_sql("SELECT 1")
                    self._take_back(connection, 0)
                except Exception:  # the server is still away
                    self._disconnect()


@functools.cache
def _patient_storage() -> Any:
    """Optuna's storage for databases, asking again where the connection broke. (A function, as Optuna loads slowly.)"""
    from optuna.storages import BaseStorage, _CachedStorage

    def patient(method: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(method)(lambda *args, **named: _patiently(lambda: method(*args, **named)))

    methods = {name: patient(getattr(_CachedStorage, name)) for name in BaseStorage.__abstractmethods__}
    return type("PatientStorage", (_CachedStorage,), methods)


def _patiently(call: Callable[[], T], final: str | None = None) -> T:
    """What a call returns, made again for a while as long as the database is out of reach.

    To ask twice does no harm. At worst a trial is made of which nobody knows, and that is recorded as abandoned.

    Args:
        final: words of the server's after which the call's own error is raised at once.

    Raises:
        UserError: it stayed out of reach.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    started, is_away = time.monotonic(), False
    while True:
        try:
            result = call()
        except (StorageInternalError, SQLAlchemyError) as error:
            broken = _broken_connection(error)
            if broken is None or (final and re.search(final, str(broken.orig))):
                raise
            reason = _reason(broken)
            if time.monotonic() - started > PATIENCE_S:
                raise UserError(
                    f"The sweep's database was out of reach for {PATIENCE_S:.0f} s ({reason}): what has finished is "
                    "kept; start the same command again once the server is back."
                ) from error
            if not is_away:
                log.warning("the sweep's database is out of reach (%s): waiting for it", reason)
            is_away = True
            time.sleep(PING_S / 2)
        else:
            if is_away:
                log.info("the sweep's database is back after %.0f s", time.monotonic() - started)
            return result


def _broken_connection(error: BaseException | None) -> Any:
    """The connection's own error that another one came of, at whatever depth; None where it is no such."""
    from sqlalchemy.exc import OperationalError

    while error is not None and not isinstance(error, OperationalError):
        error = error.__cause__ or error.__context__  # while rows are read, only the context knows it
    return error


def _problem(url: str, error: Any) -> str:
    reason = _reason(error)
    cures = [cure for pattern, cure in CURES.items() if re.search(pattern, str(error.orig))]
    cure = cures[0] if cures else "see the server's log"
    return f"{KEY}={shown_url(url)} cannot be used ({reason}): {cure}."


def _reason(error: Any) -> str:
    """The server's own words."""
    lines = list(_lines(str(error.orig)))
    fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    return (fatal or lines or [type(error.orig).__name__])[0]


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.strip():
            yield line.strip().removeprefix("connection failed: ")
