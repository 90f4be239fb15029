"""Archives at gs://: public ones without an account, others with the account that DVC would use."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from landuse.config.schema import ArchiveConfig
from landuse.data.archive import obtain
from landuse.errors import UserError

from .conftest import TOKEN, Checkout, Emulator, FakeGoogle, Reply

X = hashlib.sha256(b"x").hexdigest()


def archive(url: str, **keys) -> ArchiveConfig:
    return ArchiveConfig(**{"url": url, "sha256": X, "timeout": 10.0, "retries": 0} | keys)


@pytest.fixture
def nobody(checkout: Checkout, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for data, the emulator in place of Google, and no account."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.url)
    emulator.put("archives")
    upload = f"{emulator.url}/upload/storage/v1/b/archives/o"
    requests.post(upload, params={"uploadType": "media", "name": "raw/a.zip"}, data=b"x").raise_for_status()
    return checkout.root / "data"


def test_public_object(nobody: Path) -> None:
    found = obtain(archive("gs://archives/raw/a.zip"), nobody)
    assert found.path.name == f"{X[:12]}-a.zip"
    assert found.path.read_bytes() == b"x"


def test_missing_object(nobody: Path) -> None:
    with pytest.raises(UserError, match=r"the bucket archives has no object raw/b\.zip.*file://"):
        obtain(archive("gs://archives/raw/b.zip"), nobody)
    assert not (nobody / "downloads").exists()


def test_missing_bucket(nobody: Path) -> None:
    with pytest.raises(UserError, match="there is no bucket no-bucket"):
        obtain(archive("gs://no-bucket/raw/b.tif"), nobody)


def test_through_the_command(nobody: Path) -> None:
    """In a process of its own: the emulator in this one would go on writing to the log that the command opens."""
    address = ["data.archive.url=gs://archives/raw/a.zip", f"data.archive.sha256={X}"]
    command = [sys.executable, "-m", "landuse.download", "data=ucmerced", f"data.home={nobody}", *address]
    done = subprocess.run(command, cwd=nobody.parent, capture_output=True, text=True, check=True)
    assert f"verified (sha256:{X})" in done.stderr


@pytest.fixture
def private(service_account: Checkout, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """An object that only the account of the key file may read."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account.root / "key.json"))
    otherwise = google.reply

    def reply(path: str, query: str) -> Reply:
        if path != "/my-bucket/folder/a.zip":
            return otherwise(path, query)
        authorized = google.seen[-1][1].get("authorization") == f"Bearer {TOKEN}"
        return Reply(body=b"x") if authorized else Reply(401)

    monkeypatch.setattr(google, "reply", reply)
    return service_account


def test_private_object(private: Checkout, google: FakeGoogle) -> None:
    assert obtain(archive("gs://my-bucket/folder/a.zip"), private.root).path.read_bytes() == b"x"
    assert "authorization" not in google.seen[0][1]  # nobody is asked to log in for a public one


def test_private_object_without_an_account(private: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with pytest.raises(UserError, match=r"not open to everybody, and logging in fails \(No credentials.*gcloud auth"):
        obtain(archive("gs://my-bucket/folder/a.zip"), private.root)


def test_private_object_of_another_account(private: Checkout, google: FakeGoogle) -> None:
    google.replies["token"] = Reply(body={"access_token": "another", "expires_in": 3600, "token_type": "Bearer"})
    with pytest.raises(UserError, match="may not read it.*objectViewer on gs://my-bucket"):
        obtain(archive("gs://my-bucket/folder/a.zip"), private.root)


def test_private_object_and_a_damaged_key(private: Checkout) -> None:
    private.file("key.json", json.dumps({"type": "service_account", "private_key": "s3cret"}))
    with pytest.raises(UserError, match="lacks client_email") as caught:
        obtain(archive("gs://my-bucket/folder/a.zip"), private.root)
    assert "s3cret" not in str(caught.value)
