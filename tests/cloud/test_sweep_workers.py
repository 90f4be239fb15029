"""A sweep whose workers share a study in PostgreSQL and nothing else: each has a disk and a folder in the bucket."""

import csv
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from landuse.cloud.bucket import Bucket
from landuse.cloud.job import Copier
from tests.cloud.conftest import Emulator
from tests.sweeps.postgres_server import PASSWORD, Server

pytest.importorskip("gcp_storage_emulator", reason="needs the extra 'dev'")
pytest.importorskip("psycopg", reason="needs the extra postgres")
NUM_TRIALS = 6


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.remove()


@pytest.mark.slow
def test_the_union_of_workers_is_a_whole_sweep(
    server: Server, emulator: Emulator, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"sweep-{uuid.uuid4().hex[:12]}"
    emulator.put(name)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.url)
    monkeypatch.setenv("LANDUSE_DATABASE_URL", server.new_database("cloud"))
    sweep = ["name=cnn_tpe", "storage=${oc.env:LANDUSE_DATABASE_URL}", f"n_trials={NUM_TRIALS}", *tiny]
    sweep.append("hydra.sweeper.pruner.n_startup_trials=100")
    workers = []
    for number in range(2):
        where = tmp_path / f"machine-{number}"
        where.mkdir()
        wrapper = ["-m", "landuse.cloud.job", "--results", f"gs://{name}/s/worker-{number}", "--every", "1", "--"]
        workers.append(subprocess.Popen([sys.executable, *wrapper, "sweep", *sweep], cwd=where))
    assert [worker.wait(240) for worker in workers] == [0, 0]
    folders = [tmp_path / f"machine-{number}/outputs/sweeps/cnn_tpe" for number in range(2)]
    trained = [{path.name for path in (folder / "trials").iterdir()} for folder in folders]
    assert all(trained) and not trained[0] & trained[1] and len(trained[0] | trained[1]) == NUM_TRIALS

    here = tmp_path / "here"
    here.mkdir()
    for number in range(2):  # by the address that the machine wrote to
        Copier(tmp_path / f"fetched-{number}", Bucket(f"gs://{name}/s/worker-{number}")).restore()
        shutil.copytree(tmp_path / f"fetched-{number}", here / "outputs", dirs_exist_ok=True)
    line = [sys.executable, "-m", "landuse.sweep", *sweep]
    done = subprocess.run(line, cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{NUM_TRIALS} of {NUM_TRIALS} trials finished" in done.stderr
    with (here / "outputs/sweeps/cnn_tpe/leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == NUM_TRIALS and {row["state"] for row in rows} == {"complete"}
    assert {path.name for path in (here / "outputs/sweeps/cnn_tpe/trials").iterdir()} == trained[0] | trained[1]
    assert all((here / "outputs/sweeps/cnn_tpe" / name).is_file() for name in ("sweep.html", "best.yaml"))
    everything = [path.read_bytes() for path in here.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in everything)
