"""Files and names that a job meets: refused, impossible, shortened meanwhile, or in the way of one another."""

import base64
import errno
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from landuse.cloud import bucket as bucket_module
from landuse.cloud.bucket import Bucket, UnreachableError
from landuse.cloud.copier import Copier, CopyError
from landuse.cloud.job import main, read_secret
from landuse.errors import FailureError, UserError
from tests.cloud.conftest import FakeGoogle, QuietServer, Reply

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="jobs run in images of Linux")
PLACE = "gs://my-bucket/run"
SECRET = "projects/p/secrets/url/versions/latest"


@pytest.fixture
def storage(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> FakeGoogle:
    """A storage server that wants no account."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.url)
    return google


def recording(monkeypatch: pytest.MonkeyPatch, **failing: Exception) -> list[str]:
    """What is stored, but for names that fail."""
    stored: list[str] = []

    def store(self: Bucket, file: BinaryIO, name: str) -> None:
        if name in failing:
            raise failing[name]
        stored.append(name)

    monkeypatch.setattr(Bucket, "store", store)
    return stored


def test_a_refused_file_does_not_stop_the_others(
    storage: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b\nc", "last.pt", "z"):
        (tmp_path / name).write_bytes(b"x")
    stored = recording(monkeypatch, **{"b\nc": FailureError("refused with 400.")})
    copier = Copier(tmp_path, Bucket(PLACE))
    with pytest.raises(CopyError, match=r"b\nc: refused with 400\."):
        copier.copy()
    assert stored == ["z", "last.pt"] and copier.waiting() == ["b\nc"]


def test_a_checkpoint_waits_for_what_may_yet_arrive(
    storage: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "last.pt", "metrics"):
        (tmp_path / name).write_bytes(b"x")
    stored = recording(monkeypatch, metrics=UnreachableError("no answer."))
    copier = Copier(tmp_path, Bucket(PLACE, patience_s=7))
    with pytest.raises(CopyError, match="metrics: no answer"):
        copier.copy()
    assert stored == ["a", "b"] and copier.bucket.patience_s == 7


def test_where_nobody_answers_a_pass_ends_soon(
    storage: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02}" for number in range(20)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    asked: list[float] = []

    def store(self: Bucket, file: BinaryIO, name: str) -> None:
        asked.append(self.patience_s)
        raise UnreachableError("no answer.")

    monkeypatch.setattr(Bucket, "store", store)
    with pytest.raises(CopyError):
        Copier(tmp_path, Bucket(PLACE, patience_s=7)).copy()
    assert asked == [7, 0, 0]


def test_a_name_that_is_not_utf8_is_said_once(
    storage: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system has no such names")
    (tmp_path / "c").write_bytes(b"x")
    stored = recording(monkeypatch)
    copier = Copier(tmp_path, Bucket(PLACE))
    copier.copy()
    copier.copy()
    assert stored == ["c"] and capfd.readouterr().err.count("is not copied: its name is not UTF-8") == 1


class Uploads:
    """A storage server that takes a piece of an upload and says how much has arrived."""

    def __init__(self, arrived: str) -> None:
        self.pieces = 0
        uploads = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(200)
                self.send_header("Location", f"{uploads.url}/session")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_PUT(self) -> None:
                uploads.pieces += len(self.rfile.read(int(self.headers.get("content-length") or 0))) > 0
                self.send_response(308)
                self.send_header("Range", arrived)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def uploads(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    started = Uploads(request.param)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", started.url)
    monkeypatch.setattr(bucket_module, "AT_ONCE", 4)
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.mark.parametrize("uploads", ["bytes=0-3"], indirect=True)
def test_a_file_that_became_shorter_is_left_for_the_next_pass(uploads: Uploads, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    bucket = Bucket(PLACE, patience_s=0.3)
    begin = bucket._begin

    def shortened(name: str, size: int, checksum: str) -> str:
        os.truncate(tmp_path / "a", 4)
        return begin(name, size, checksum)

    bucket._begin = shortened  # type: ignore[method-assign]
    with (tmp_path / "a").open("rb") as file, pytest.raises(FailureError, match="became shorter"):
        bucket.store(file, "a")
    assert uploads.pieces == 1


@pytest.mark.parametrize("uploads", ["", "bytes=0-x", "bytes=0-²", "bytes=0-99"], indirect=True)
def test_an_upload_that_does_not_go_on_ends(uploads: Uploads, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with (tmp_path / "a").open("rb") as file, pytest.raises(UnreachableError, match="does not go on"):
        Bucket(PLACE, patience_s=0.3).store(file, "a")


LISTINGS: list[Any] = [
    b"[]", b"5", b"<html>", {"items": None}, {"items": [{"name": "run/a"}]}, {"items": [5]}, {"nextPageToken": "x"},
    {"items": [{"name": 5, "size": "1"}]},
]  # fmt: skip


@pytest.mark.parametrize("listing", LISTINGS, ids=str)
def test_an_odd_listing_is_no_empty_bucket(storage: FakeGoogle, listing: Any) -> None:
    storage.replies["list"] = Reply(body=listing)
    with pytest.raises(UnreachableError):
        Bucket(PLACE, patience_s=0.0).sizes()


def test_a_redirection_is_no_listing(storage: FakeGoogle) -> None:
    storage.replies["list"] = Reply(302, headers={"Location": "http://portal.example.org"})
    with pytest.raises(UnreachableError, match="302"):
        Bucket(PLACE, patience_s=0.0).sizes()


def listed(storage: FakeGoogle, *names: str) -> None:
    storage.replies["list"] = Reply(body={"items": [{"name": f"run/{name}", "size": "14"} for name in names]})
    for name in names:
        storage.replies[f"run%2F{name}".replace("/", "%2F")] = Reply(body=b'{"size": "14"}')


@pytest.mark.parametrize(
    "names", [["a", "a/b"], ["x" * 300], ["a\0b"], ["a\ud800"]], ids=["both", "long", "nul", "half"]
)
def test_names_that_no_file_can_have(
    storage: FakeGoogle, tmp_path: Path, names: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    listed(storage, *names)
    assert main(["--results", PLACE, "--outputs", str(tmp_path / "outputs"), "--", "train"]) == 1
    said = capfd.readouterr().err
    assert said.startswith("error: gs://my-bucket/run/") and said.count("\n") == 1


def test_a_file_in_the_place_of_the_results(
    storage: FakeGoogle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listed(storage, "a")
    (tmp_path / "outputs").write_bytes(b"")
    assert main(["--results", PLACE, "--outputs", str(tmp_path / "outputs"), "--", "train"]) == 1
    assert "cannot be put back" in capfd.readouterr().err


def test_a_full_disk(storage: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(storage, "a")

    def full(self: Bucket, name: str, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Bucket, "fetch", full)
    with pytest.raises(FailureError, match="run/a cannot be put back .*No space left"):
        Copier(tmp_path, Bucket(PLACE)).restore()


def test_an_object_that_is_gone_is_named(storage: FakeGoogle, tmp_path: Path) -> None:
    listed(storage, "a")
    storage.replies["run%2Fa"] = Reply(404)
    with pytest.raises(FailureError, match="gs://my-bucket/run/a is gone"):
        Copier(tmp_path, Bucket(PLACE)).restore()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--results", ""], "--results=''"),
        (["--results", "s3://x/y"], "gs://BUCKET/PREFIX"),
        *((["--results", PLACE, f"--every={every}"], "--every") for every in ("inf", "1e10", "-5", "0", "nan", "x")),
        (["--results", PLACE, "--secret", "FOO"], "'FOO' is not VARIABLE="),
    ],
)
def test_a_mistake_begins_nothing(
    storage: FakeGoogle, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        status: Any = main([*words, "--", "train"])
    except SystemExit as leaving:  # argparse's
        status = leaving.code
    error = capfd.readouterr().err
    assert status == 2 and said in error and "Traceback" not in error and not storage.seen


@pytest.mark.parametrize(
    "body",
    [{}, b"<html>", b"[]", {"payload": None}, {"payload": {"data": "a"}}, {"payload": {"data": "/w=="}},
     {"payload": {"data": base64.b64encode(b"a\0b").decode()}}, b'{"a":' * 100_000],
    ids=range(8),
)  # fmt: skip
def test_a_secret_without_a_text(
    google: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "NO_GCE_CHECK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", google.host)
    monkeypatch.setenv("LANDUSE_CLOUD_ENDPOINT", google.url)
    google.replies["latest:access"] = Reply(body=body)
    with pytest.raises(UserError, match="The secret url cannot be read"):
        read_secret(SECRET)
