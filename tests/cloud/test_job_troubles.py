"""What a job meets on its way: signals before it has begun, files that vanish, logins that end, objects without MD5."""

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from landuse.cloud import bucket as bucket_module
from landuse.cloud import job, remote
from landuse.cloud.bucket import Bucket, PassingError
from landuse.cloud.job import Copier, main, read_secret
from landuse.errors import FailureError
from tests.cloud.conftest import Checkout, FakeGoogle, Reply

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="jobs run in images of Linux")
PLACE = "gs://my-bucket/run"


@pytest.fixture
def storage(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> FakeGoogle:
    """A storage server that wants no account."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.url)
    return google


@pytest.fixture
def account(google: FakeGoogle, checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> FakeGoogle:
    """A key file, whose account asks the server."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(checkout.file("key.json", checkout.key(google.url))))
    monkeypatch.setenv("LANDUSE_CLOUD_ENDPOINT", google.url)
    monkeypatch.setattr(remote, "GOOGLE", google.url)
    return google


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_command_begins_ends_it_there(
    storage: FakeGoogle, tmp_path: Path, number: signal.Signals
) -> None:
    """In the midst of an object: of that one nothing is left, and the command does not begin."""
    storage.replies["list"] = Reply(body={"items": [{"name": "run/a", "size": "3"}]})
    storage.replies["run%2Fa"] = Reply(body={"size": "3"}, delay_s=1.0)
    line = [sys.executable, "-m", "landuse.cloud.job", "--results", PLACE, "--", "train", "--cfg", "job"]
    started = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(storage.seen) < 2:  # it has listed, and asks for the object
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(number)
    out, said = started.communicate(timeout=60)
    assert started.returncode == 128 + number and not out
    assert said == f"Stopped by {number.name} before the command began.\n"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_handlers_are_what_they_were_afterwards(storage: FakeGoogle, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    storage.replies["list"] = Reply(404)
    assert main(["--results", PLACE, "--outputs", str(tmp_path), "--", "train"]) == 1
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_copying_goes_on_after_whatever_happens(
    storage: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    done, passes = threading.Event(), []

    def copy() -> None:
        passes.append(1)
        if len(passes) == 4:
            done.set()
        raise RuntimeError("nobody thought of this")

    copier = Copier(tmp_path, Bucket(PLACE))
    monkeypatch.setattr(copier, "copy", copy)
    job._keep_copying(copier, 0.001, done)
    assert len(passes) == 4 and capfd.readouterr().err.count("RuntimeError: nobody thought of this") == 1


def test_a_checkpoint_that_vanishes_is_not_there_in_this_pass(
    storage: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.pt").write_bytes(b"x")
    copier, stored = Copier(tmp_path, Bucket(PLACE)), []
    monkeypatch.setattr(copier, "waiting", lambda: ["best.pt", "last.pt"])
    monkeypatch.setattr(copier.bucket, "store", lambda file, name: stored.append(name))
    copier.copy()
    assert stored == ["best.pt"]


def test_of_an_object_without_md5_the_size_is_compared(storage: FakeGoogle, tmp_path: Path) -> None:
    storage.replies["run%2Fa"] = Reply(body=b'{"size": "14"}')  # what is told of the object is its content as well
    Bucket(PLACE).fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b'{"size": "14"}'
    storage.replies["run%2Fa"] = Reply(body=b'{"size": "15"}')
    with pytest.raises(FailureError, match="another size"):
        Bucket(PLACE, patience_s=0.3).fetch("a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_upload_without_an_address_is_begun_again(storage: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "AT_ONCE", 1)
    with pytest.raises(PassingError, match="does not say where"):
        Bucket(PLACE)._begin("a", 2, "x")
    with (Path(__file__)).open("rb") as file, pytest.raises(FailureError, match="does not say where"):
        Bucket(PLACE, patience_s=0.3).store(file, "a")


@pytest.mark.parametrize("status", [400, 403])
def test_a_login_that_is_refused_for_good_is_not_tried_again(
    account: FakeGoogle, tmp_path: Path, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    refusal = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    account.replies["token"] = Reply(status, refusal)
    assert main(["--results", PLACE, "--outputs", str(tmp_path), "--", "train"]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: Google refuses a token for") and "make a new key" in said
    assert len([path for path, _, _ in account.seen if path == "/token"]) == 1


def test_a_login_that_nobody_answers_is_tried_again(account: FakeGoogle) -> None:
    account.replies["token"] = Reply(503)
    with pytest.raises(FailureError, match="trouble of its own"):
        Bucket(PLACE, patience_s=1.0).sizes()
    assert len([path for path, _, _ in account.seen if path == "/token"]) > 1


def test_a_token_is_asked_for_what_it_is_for(account: FakeGoogle) -> None:
    """Secret Manager takes none for storage; the bucket needs none for everything."""

    def scopes() -> list[str]:
        forms = [form for path, _, form in account.seen if path == "/token"]
        claims = [form["assertion"][0].split(".")[1] for form in forms]
        return [json.loads(base64.urlsafe_b64decode(claim + "=="))["scope"].rpartition("/")[2] for claim in claims]

    account.replies["list"] = Reply(body={"items": [{"name": "run/a", "size": "3"}]})
    assert Bucket(PLACE).sizes() == {"a": 3}
    assert scopes() == ["devstorage.full_control"]
    account.replies["latest:access"] = Reply(body={"payload": {"data": base64.b64encode(b"value").decode()}})
    assert read_secret("projects/p/secrets/url/versions/latest") == "value"
    assert scopes() == ["devstorage.full_control", "cloud-platform"]
