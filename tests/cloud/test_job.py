"""A command whose results are in a bucket: killed, stopped, cut off and refused, against a real storage server."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from safetensors.numpy import load_file

from landuse.cloud import bucket as bucket_module
from landuse.cloud import remote
from landuse.cloud.bucket import Bucket
from landuse.cloud.job import Copier, main, read_secret
from landuse.errors import FailureError, UserError
from tests.cloud.conftest import TOKEN, Emulator, FakeGoogle, QuietServer, Reply
from tests.cloud.script import PROJECT, tool
from tests.conftest import Run

pytest.importorskip("gcp_storage_emulator", reason="needs the extra 'dev'")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="jobs run in images of Linux")
QUICK = ["train", "--cfg", "job"]  # a command that ends well and writes nothing


class Relay:
    """Between a client and the storage server: it can break a connection off, or answer in the server's place."""

    def __init__(self, target: str) -> None:
        self.broken: list[str] = []  # methods whose next request is read and then cut off
        self.cut_after: list[str] = []  # methods whose next request arrives, and whose answer does not
        self.damages = False  # a byte of each object that is read
        self.statuses: list[int] = []  # of the next answers
        self.seen: list[tuple[str, str]] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                relay.seen.append((self.command, self.headers.get("Content-Range", "")))
                if self.command in relay.broken:
                    relay.broken.remove(self.command)
                    self.close_connection = True
                    return
                if relay.statuses:
                    self.send_response(relay.statuses.pop(0))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                passed = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                answer = requests.request(
                    self.command, target + self.path, data=body, headers=passed, timeout=20, allow_redirects=False
                )
                if self.command in relay.cut_after:
                    relay.cut_after.remove(self.command)
                    self.close_connection = True
                    return
                self.send_response(answer.status_code)
                for name in ("Location", "Range", "Content-Type"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                content = answer.content
                if relay.damages and "alt=media" in self.path:
                    content = bytes([content[0] ^ 1]) + content[1:]
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def relay(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    started = Relay(emulator.url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", started.url)
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture
def results(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in a bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.url)
    name = f"results-{uuid.uuid4().hex[:12]}"
    emulator.put(name)
    return f"gs://{name}/run"


def written(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_what_is_copied_comes_back(results: str, tmp_path: Path) -> None:
    here = written(tmp_path / "here" / "train" / "a b" / "ü#?%", metrics=b"1\n", empty=b"").parents[2]
    (here / "latest").symlink_to("train")
    written(here, **{".lock": b"", ".last.pt.17.tmp": b"half"})
    first = Copier(here, Bucket(results))
    first.copy()
    (here / "train/a b/ü#?%/metrics").write_bytes(b"1\n2\n")  # it grew
    assert first.waiting() == ["train/a b/ü#?%/metrics"]
    first.copy()

    there = Copier(tmp_path / "there", Bucket(results))
    assert there.restore() == 2 and there.waiting() == []
    assert (tmp_path / "there/train/a b/ü#?%/metrics").read_bytes() == b"1\n2\n"
    assert (tmp_path / "there/train/a b/ü#?%/empty").read_bytes() == b""


def test_what_is_here_is_newer_than_the_copy(results: str, tmp_path: Path) -> None:
    Copier(written(tmp_path / "a", file=b"old"), Bucket(results)).copy()
    assert Copier(written(tmp_path / "b", file=b"new"), Bucket(results)).restore() == 0
    assert (tmp_path / "b/file").read_bytes() == b"new"


def test_a_checkpoint_is_never_newer_than_the_rest(
    results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on while a pass is copied: what the pass has of last.pt is what was there at its start."""
    here = written(tmp_path, **{"last.pt": b"epoch 1", "best.pt": b"epoch 1"})
    store, order = Bucket.store, []

    def meanwhile(self: Bucket, file: object, name: str) -> None:
        order.append(name)
        store(self, file, name)  # type: ignore[arg-type]
        if name == "best.pt":
            for each in ("best.pt", "last.pt"):
                (here / "aside").write_bytes(b"epoch 2")
                (here / "aside").rename(here / each)

    monkeypatch.setattr(Bucket, "store", meanwhile)
    copier = Copier(here, Bucket(results))
    copier.copy()
    assert order == ["best.pt", "last.pt"] and sorted(copier.waiting()) == ["best.pt", "last.pt"]
    assert Copier(tmp_path / "there", Bucket(results)).restore() == 2
    assert (tmp_path / "there/last.pt").read_bytes() == b"epoch 1"


@pytest.mark.parametrize("how", ["broken", "cut_after", "503"])
def test_a_large_upload_goes_on_where_it_broke_off(
    results: str, relay: Relay, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "AT_ONCE", 256 << 10)
    content = os.urandom((1 << 20) + 77)
    bucket = Bucket(results, patience_s=10)
    original = Bucket._store_piece

    def interrupted(self: Bucket, upload: str, file: object, at: int, size: int, checksum: str) -> int:
        if at == 512 << 10 and not any(marker == at for marker in once):
            once.append(at)
            if how == "503":
                relay.statuses = [503, 503]
            else:
                getattr(relay, how).append("PUT")
        return original(self, upload, file, at, size, checksum)  # type: ignore[arg-type]

    once: list[int] = []
    monkeypatch.setattr(Bucket, "_store_piece", interrupted)
    Copier(written(tmp_path / "a", file=content), bucket).copy()
    Copier(tmp_path / "b", Bucket(results)).restore()
    assert once and hashlib.sha256((tmp_path / "b/file").read_bytes()).digest() == hashlib.sha256(content).digest()
    pieces = [where for verb, where in relay.seen if verb == "PUT" and "*" not in where]
    assert len([where for where in pieces if where.startswith("bytes 0-")]) == 1  # the beginning was not sent twice


def test_small_requests_are_repeated(results: str, relay: Relay, tmp_path: Path) -> None:
    relay.statuses, relay.broken = [503, 429], ["GET"]
    copier = Copier(written(tmp_path, file=b"x"), Bucket(results, patience_s=10))
    copier.copy()
    assert Bucket(results).sizes() == {"file": 1}


def test_what_arrives_damaged_is_not_taken(results: str, relay: Relay, tmp_path: Path) -> None:
    Copier(written(tmp_path / "a", file=b"x" * 1000), Bucket(results)).copy()
    relay.damages = True
    with pytest.raises(FailureError, match="another checksum"):
        Copier(tmp_path / "b", Bucket(results, patience_s=0.3)).restore()
    assert not list((tmp_path / "b").glob("*"))


def test_names_that_lead_out_are_refused(results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "sizes", lambda self: {"../../evil": 1})  # the emulator itself takes no such name
    with pytest.raises(FailureError, match="outside of"):
        Copier(tmp_path / "here", Bucket(results)).restore()


def test_without_its_bucket_nothing_begins(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Or else it would begin anew what had gone far."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.url)
    monkeypatch.chdir(tmp_path)
    assert main(["--results", "gs://no-such-bucket-here/run", "--", *QUICK]) == 1
    said = capfd.readouterr()
    assert "There is no bucket gs://no-such-bucket-here" in said.err and not said.out


def test_without_the_right_nothing_begins(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    google.denies()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.url)
    monkeypatch.chdir(tmp_path)
    assert main(["--results", "gs://my-bucket/run", "--", *QUICK]) == 1
    said = capfd.readouterr().err
    assert "does not have storage.objects.list access" in said and "--role=roles/storage.objectUser" in said


def job(where: Path, results: str, *words: str, every: str = "0.2") -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "landuse.cloud.job", "--results", results, "--every", every, "--", *words]
    where.mkdir(exist_ok=True)
    return subprocess.Popen(line, cwd=where, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def test_a_failing_copy_is_told_by_the_status(
    emulator: Emulator, results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(emulator.url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", relay.url)
    written(tmp_path / "outputs", kept=b"x")
    started = job(tmp_path, results, *QUICK)
    while not relay.seen:  # it has asked what there is
        time.sleep(0.02)
    relay.statuses = [404] * 500  # as if the bucket were gone
    _, said = started.communicate(timeout=60)
    relay.server.shutdown()
    relay.server.server_close()
    assert "warning: results are not all copied for now, and the command goes on" in said
    assert started.returncode == 1 and "1 files did not arrive" in said and "kept" in said and "no bucket" in said


def test_the_status_is_the_commands(results: str, tmp_path: Path) -> None:
    started = job(tmp_path, results, "train", "no_such_key=1")
    _, said = started.communicate(timeout=60)
    assert started.returncode == 2 and "no_such_key" in said


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def measured(run: Path) -> list[dict[str, float]]:
    """Of every epoch, but for its speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if "second" not in key} for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the command by /proc")
def test_stopped_and_killed_it_ends_with_the_same_weights(
    results: str, tiny: list[str], command: Run, tmp_path: Path
) -> None:
    """First as a spot machine is taken away, with SIGTERM, then without a word; each time on a fresh disk."""
    long = [word for word in tiny if not word.startswith("trainer.epochs")]
    shown = tool("train", PROJECT, "cloud.name=a", *long, "trainer.epochs=40", "--dry-run").out
    [pool] = json.loads(shown[shown.index("{") :])["jobSpec"]["workerPoolSpecs"]
    arguments = pool["containerSpec"]["args"]  # what Vertex AI would run
    assert pool["containerSpec"]["command"] == ["python", "-m", "landuse.cloud.job"]
    name, *words = arguments[arguments.index("--") + 1 :]
    assert name == "train"
    bucket = Bucket(results)

    def epochs() -> int:
        names = [name for name in bucket.sizes() if name.endswith("metrics.jsonl")]
        if not names or not any(name.endswith("last.pt") for name in bucket.sizes()):
            return 0
        bucket.fetch(names[0], tmp_path / "seen")
        return (tmp_path / "seen").read_text().count("\n")

    first = job(tmp_path / "first", results, "train", *words)
    until(lambda: epochs() > 0)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 128 + signal.SIGTERM
    stopped_at = epochs()
    assert 0 < stopped_at < 40

    second = job(tmp_path / "second", results, "train", *words)
    until(lambda: epochs() > stopped_at)
    trainings = children(second.pid)
    for process in (second.pid, *trainings):
        os.kill(process, signal.SIGKILL)
    second.wait()
    assert epochs() < 40

    third = job(tmp_path / "third", results, "train", *words)
    _, said = third.communicate(timeout=90)
    assert third.returncode == 0 and "files of an earlier attempt put back" in said and "resumed from" in said

    assert command("train", *words).status == 0  # uninterrupted
    run = Path("outputs/train/folder_cnn/a")
    other = tmp_path / "third" / run
    expected, found = (load_file(folder / "model" / "model.safetensors") for folder in (run, other))
    assert expected.keys() == found.keys() and all((expected[key] == found[key]).all() for key in expected)
    assert measured(other) == measured(run)  # to the last bit of the last epoch
    copied = Copier(tmp_path / "fourth", bucket)
    copied.restore()
    assert measured(tmp_path / "fourth" / run.relative_to("outputs")) == measured(run)


@pytest.fixture
def machine(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGoogle:
    """A machine with an account of its own, told by a metadata server, as those of a job are."""
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "NO_GCE_CHECK", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", google.host)
    monkeypatch.setenv("LANDUSE_CLOUD_ENDPOINT", google.url)
    monkeypatch.setattr(remote, "GOOGLE", google.url)
    return google


def test_a_job_asks_as_its_machine(machine: FakeGoogle) -> None:
    bucket = Bucket("gs://my-bucket/run", patience_s=1.5)
    machine.replies["list"] = Reply(body={"items": [{"name": "run/a", "size": "3"}]})
    assert bucket.sizes() == bucket.sizes() == {"a": 3}
    paths = [path.rpartition("/")[2] for path, _, _ in machine.seen]
    assert paths.count("token") == 1 and machine.seen[-1][1]["authorization"] == f"Bearer {TOKEN}"
    machine.replies["list"] = Reply(401, {"error": {"code": 401, "message": "Invalid Credentials"}})
    with pytest.raises(FailureError, match="401"):
        bucket.sizes()
    assert [path.rpartition("/")[2] for path, _, _ in machine.seen].count("token") > 1  # a token may have run out


def test_a_secret_comes_from_its_service(machine: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    google = machine
    value = base64.b64encode(b"postgresql://me:secret@host/db").decode()
    google.replies["latest:access"] = Reply(body={"payload": {"data": value}})
    assert read_secret("projects/p/secrets/url/versions/latest") == "postgresql://me:secret@host/db"
    path, headers, _ = google.seen[-1]
    assert path == "/v1/projects/p/secrets/url/versions/latest:access" and headers["authorization"].startswith("Bearer")
    google.replies["latest:access"] = Reply(403, {"error": {"message": "Permission denied", "status": "x"}})
    with pytest.raises(UserError, match="roles/secretmanager.secretAccessor"):
        read_secret("projects/p/secrets/url/versions/latest")
    monkeypatch.setenv("LANDUSE_CLOUD_ENDPOINT", "http://example.org")
    with pytest.raises(UserError, match="must begin with https"):
        read_secret("projects/p/secrets/url/versions/latest")
