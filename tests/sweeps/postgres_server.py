"""A PostgreSQL server on loopback, in a temporary folder, that a test may stop and start again."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "sweeps", "open-sesame"


def binary(name: str) -> str:
    """The newest one."""
    places = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    places.sort(key=lambda place: float(Path(place).parent.name), reverse=True)
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"needs PostgreSQL's {name} (a package of the system: postgresql)")
    return found


class Server:
    """Started by the constructor."""

    def __init__(self) -> None:
        self.binaries = {name: binary(name) for name in ("initdb", "postgres")}
        # Not pytest's folder, which nobody but root may enter where root runs the tests.
        self.folder = Path(tempfile.mkdtemp(prefix="landuse-postgres-"))
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # as whom the server refuses to run
            account = _account()
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [self.binaries["initdb"], "-D", f"{self.folder}/data", "-U", USER, "-A", "scram-sha-256"]
        command += ["--no-sync", f"--pwfile={secret}"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Until it takes connections."""
        settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", "fsync=off"]
        command = [self.binaries["postgres"], "-D", f"{self.folder}/data", "-p", str(self.port)]
        command += [part for setting in settings for part in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as_user)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.query("SELECT 1")
            except Exception:
                assert time.monotonic() < deadline and self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """At once, which breaks all connections."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def query(self, text: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            answer = connection.execute(text)
            return answer.fetchall() if answer.description else []

    def new_database(self, name: str) -> str:
        """Its URL."""
        self.query(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("root runs the tests, PostgreSQL runs as anybody but root, and there is no user postgres or nobody")
