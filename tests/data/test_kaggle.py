"""data=landuse_scenes from Kaggle's API, which a server on loopback plays."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from landuse.config.schema import ArchiveConfig
from landuse.data.archive import _target, accepted_checksums, obtain

from .site import CONTENT, SHA256, Handler, Site, packed, plain, redirect, status, whole
from .test_archive import left
from .test_transfer import fails

URL = "kaggle://apollo2506/landuse-scene-classification"
API = "/api/v1/datasets/download/apollo2506/landuse-scene-classification"
FILE = "kaggle@apollo2506@landuse-scene-classification.zip"
ANOTHER = packed({"a/1.png": b"another"})
SECRET = "0123456789abcdef-s3cret"


def config(**keys) -> ArchiveConfig:
    return ArchiveConfig(**{"url": URL, "retries": 0} | keys)


@pytest.fixture(autouse=True)
def kaggle(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Kaggle, with the archive on another host behind a signed address, and a user who has no token yet."""
    for variable in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", site.url)

    def ask(handler: Handler) -> None:
        expected = base64.b64encode(f"ada:{SECRET}".encode()).decode()
        allowed = handler.headers.get("Authorization") in (f"Basic {expected}", f"Bearer {SECRET}")
        signed = f"http://localhost:{site.port}/storage/archive.zip?Signature={SECRET}"
        (redirect(signed) if allowed else status(401))(handler)

    site.has(API, ask)
    site.has("/storage/archive.zip", whole())
    return site


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    monkeypatch.setenv("KAGGLE_KEY", SECRET)


def test_no_token(site: Site, tmp_path: Path) -> None:
    message = fails(config(), tmp_path, "there is none", "https://www.kaggle.com/settings", "~/.kaggle/kaggle.json")
    assert message.count(". ") == 0  # one sentence
    assert "data.source=folder data.root=" in message
    assert site.seen == left(tmp_path) == []


@pytest.mark.usefixtures("token")
def test_token_in_the_environment(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = obtain(config(), tmp_path)
    assert archive.path == tmp_path / "downloads" / FILE
    assert archive.path.read_bytes() == CONTENT
    assert archive.checksum == f"sha256:{SHA256}"
    assert "Authorization" in site.seen[0].headers
    assert "Authorization" not in site.seen[1].headers
    assert "s3cret" not in caplog.text
    assert f"data.archive.sha256={SHA256}" in caplog.text


@pytest.mark.parametrize("folder", ["user/.kaggle", "user/.config/kaggle", "own"])
def test_token_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "kaggle.json").write_text(json.dumps({"username": "ada", "key": SECRET}))
    if folder == "own":
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / folder))
    assert obtain(config(), tmp_path).path.read_bytes() == CONTENT


def test_bearer_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    assert obtain(config(), tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", ["{", "[]", '{"username": "ada"}'])
def test_damaged_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "kaggle.json").write_text(content)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    fails(config(), tmp_path, f"the Kaggle token {tmp_path}/kaggle.json cannot be read", "make a new one")


def test_token_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "another-s3cret")
    message = fails(config(), tmp_path, "Kaggle does not accept your token (401)", "make a new one")
    assert "s3cret" not in message


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(("code", "said"), [(403, "accept what it asks there"), (404, "no such dataset or version")])
def test_refused(site: Site, tmp_path: Path, code: int, said: str) -> None:
    site.has(API, status(code))
    fails(config(), tmp_path, said, "https://www.kaggle.com/datasets/apollo2506/landuse-scene-classification")
    assert left(tmp_path) == []


@pytest.mark.usefixtures("token")
def test_version(site: Site, tmp_path: Path) -> None:
    assert obtain(config(url=f"{URL}?version=3"), tmp_path).path.name == FILE.replace(".zip", "@v3.zip")
    assert site.seen[0].path == f"{API}?datasetVersionNumber=3"


@pytest.mark.usefixtures("token")
def test_broken_off_then_resumed_where_it_redirects_to(site: Site, tmp_path: Path) -> None:
    site.has("/storage/archive.zip", whole(breaks_at=60_000), whole())
    assert obtain(config(retries=1), tmp_path).path.read_bytes() == CONTENT
    assert site.seen[-1].range == "bytes=60000-"


@pytest.mark.usefixtures("token")
def test_first_content_is_kept_to(site: Site, tmp_path: Path) -> None:
    assert accepted_checksums(config(), tmp_path) == []
    path = obtain(config(), tmp_path).path
    assert left(tmp_path) == [FILE, f"{FILE}.sha256"]
    assert (tmp_path / "downloads" / f"{FILE}.sha256").read_text() == f"{SHA256}  {FILE}\n"
    assert accepted_checksums(config(), tmp_path) == [f"sha256:{SHA256}"]
    path.unlink()
    site.has("/storage/archive.zip", plain(ANOTHER))
    fails(config(), tmp_path, f"expected sha256:{SHA256}", f"remove {path}.sha256")
    assert left(tmp_path) == [f"{FILE}.sha256"]
    (tmp_path / "downloads" / f"{FILE}.sha256").unlink()
    assert obtain(config(), tmp_path).checksum == "sha256:" + hashlib.sha256(ANOTHER).hexdigest()


@pytest.mark.usefixtures("token")
def test_pinned(site: Site, tmp_path: Path) -> None:
    fails(config(sha256="1" * 64), tmp_path, "data.archive.sha256")
    assert left(tmp_path) == []
    obtain(config(sha256=SHA256), tmp_path)
    obtain(config(sha256=SHA256), tmp_path)
    assert left(tmp_path) == [FILE]  # nothing is recorded where the checksum is given
    assert len(site.seen) == 4


def test_through_the_command(command, site: Site, tmp_path: Path) -> None:
    done = command("download", "data=landuse_scenes")
    assert done.status == 2
    assert "Kaggle asks for your token" in done.err
    assert len(done.err.strip().splitlines()) <= 2


@pytest.mark.usefixtures("token")
def test_a_file_cut_off_unnoticed_is_not_trusted(site: Site, tmp_path: Path) -> None:
    """From a server that names no length, what is cut off looks whole."""
    site.has("/storage/archive.zip", plain(CONTENT[:-50]))
    fails(config(), tmp_path, "no whole archive")
    assert left(tmp_path) == []
    site.has("/storage/archive.zip", plain())
    assert obtain(config(), tmp_path).path.read_bytes() == CONTENT


def test_datasets_do_not_share_a_file(tmp_path: Path) -> None:
    urls = ["kaggle://a-b/c", "kaggle://a/b-c", "kaggle://o/d-v2", "kaggle://o/d?version=2", "kaggle://o/d"]
    assert len({_target(config(url=url), tmp_path) for url in urls}) == len(urls)
