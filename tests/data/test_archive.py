"""Which content is accepted, from where, and what is left of it, against a real HTTP server on loopback."""

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from landuse.config.schema import ArchiveConfig
from landuse.data.archive import obtain
from landuse.errors import UserError

from .site import CONTENT, SHA256, Site, archive, plain, stalls, status, whole


def left(home: Path) -> list[str]:
    """What lies in the folder of downloads."""
    return sorted(path.name for path in (home / "downloads").glob("*"))


def test_downloads_once_and_verifies(site: Site, tmp_path: Path) -> None:
    config = site.archive(whole(), sha256=None, checksums=["md5:" + "0" * 32, f"sha256:{SHA256}"])
    first, second = obtain(config, tmp_path), obtain(config, tmp_path)
    assert first == second
    assert first.path.read_bytes() == CONTENT
    assert first.checksum == f"sha256:{SHA256}"
    assert len(site.seen) == 1
    assert left(tmp_path) == [first.path.name]


def test_md5(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(CONTENT)
    md5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
    assert obtain(ArchiveConfig(url=file.as_uri(), checksums=[md5]), tmp_path).checksum == md5
    assert sorted(tmp_path.iterdir()) == [file]  # read where it lies


def test_wrong_content_is_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"sha256:{SHA256}, expected sha256:{'1' * 64}.*data.archive.sha256"):
        obtain(site.archive(whole(), sha256="1" * 64), tmp_path)
    assert left(tmp_path) == []


def test_missing_local_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file .*nowhere.zip"):
        obtain(archive(f"file://{tmp_path}/nowhere.zip"), tmp_path)


def test_wrong_local_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(CONTENT)
    with pytest.raises(UserError, match=f"data.archive.url=file://.*sha256:{SHA256}, expected"):
        obtain(archive(file.as_uri(), sha256="1" * 64), tmp_path)
    assert file.read_bytes() == CONTENT


def test_a_damaged_download_is_replaced(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = site.archive(whole())
    path = obtain(config, tmp_path).path
    path.write_bytes(CONTENT[:-1])
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert caplog.text.count("is damaged") == 1


def test_a_finished_download_needs_no_server_and_no_writing(site: Site, tmp_path: Path) -> None:
    config = site.archive(whole(), status(500))
    path = obtain(config, tmp_path).path
    (tmp_path / "locks").chmod(0o500)
    for lock in (tmp_path / "locks").iterdir():
        lock.unlink()
    assert obtain(config, tmp_path).path == path
    assert not list((tmp_path / "locks").iterdir())


def test_home_that_cannot_be_written_to(site: Site, tmp_path: Path) -> None:
    (tmp_path / "downloads").touch()
    with pytest.raises(UserError, match="data.home: .*downloads cannot be written to"):
        obtain(site.archive(whole()), tmp_path)


def test_mirrors_in_turn(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mirrors = [site.has("/other.zip", whole(b"PK another content")), site.has("/mirror.zip", whole())]
    assert obtain(site.archive(status(404), mirrors=mirrors), tmp_path).path.read_bytes() == CONTENT
    assert [seen.path for seen in site.seen] == ["/a.zip", "/other.zip", "/mirror.zip"]
    assert "a.zip could not be downloaded, because" in caplog.text
    assert left(tmp_path) == [f"{SHA256[:12]}-a.zip"]


def test_a_local_mirror(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "copy.zip"
    file.write_bytes(CONTENT)
    assert obtain(site.archive(status(403), mirrors=[file.as_uri()]), tmp_path).path == file


def test_all_mirrors_fail_each_with_its_reason(site: Site, tmp_path: Path) -> None:
    mirrors = [site.has("/page.zip", plain(b"<html>")), f"file://{tmp_path}/nowhere.zip"]
    with pytest.raises(UserError) as caught:
        obtain(site.archive(status(404), mirrors=mirrors), tmp_path)
    message = str(caught.value)
    assert "None of 3 addresses" in message
    assert f"(1) {site.url}/a.zip, because 127.0.0.1:{site.port} answers 404 (Not Found)" in message
    assert f"(2) {site.url}/page.zip, because" in message
    assert "a web page" in message
    assert "(3) file://" in message
    assert "data.archive.url=file://<absolute path>" in message
    assert left(tmp_path) == []


def test_a_mirror_with_another_content_is_asked_once(site: Site, tmp_path: Path) -> None:
    """What the first address left is no reason to fetch the mirror's content twice."""
    config = site.archive(whole(breaks_at=1000), mirrors=[site.has("/m.zip", whole(b"PK another"))], retries=0)
    with pytest.raises(UserError, match="None of 2 addresses.*broke the connection off.*so it is another"):
        obtain(config, tmp_path)
    assert [seen.path for seen in site.seen] == ["/a.zip", "/m.zip"]
    assert left(tmp_path) == []


def test_another_mirror_keeps_what_it_does_not_replace(site: Site, tmp_path: Path) -> None:
    """A mirror without the file costs nothing of what the first address has already sent."""
    config = site.archive(whole(breaks_at=1000), status(403), whole(), mirrors=[site.has("/m.zip", status(404))])
    config.retries = 0
    with pytest.raises(UserError, match=r"1.0 kB of 210.2 kB are kept in .*a.zip.part"):
        obtain(config, tmp_path)
    with pytest.raises(UserError, match="answers 403"):
        obtain(config, tmp_path)
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert site.seen[-1].range == "bytes=1000-"


PROGRAM = """
import json, logging, sys
from pathlib import Path
from landuse.config.schema import ArchiveConfig
from landuse.data.archive import obtain
logging.basicConfig(level="INFO")
config, home = json.loads(sys.argv[1]), Path(sys.argv[2])
print(obtain(ArchiveConfig(**config), home).path)
"""


def process(config: ArchiveConfig, home: Path) -> "subprocess.Popen[str]":
    """A download in another process."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(vars(config)), str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_and_resumed(site: Site, tmp_path: Path) -> None:
    config = site.archive(stalls(after=50_000), whole(), timeout=600.0)
    part = tmp_path / "downloads" / f"{SHA256[:12]}-a.zip.part"
    with process(config, tmp_path) as killed:
        while not part.exists() or part.stat().st_size < 50_000:
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    assert left(tmp_path) == [part.name, f"{part.name}.json"]  # nothing that looks finished
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert [seen.range for seen in site.seen] == [None, "bytes=50000-"]
    assert left(tmp_path) == [part.name.removesuffix(".part")]


def test_two_processes_download_once(site: Site, tmp_path: Path) -> None:
    asked, go = threading.Event(), threading.Event()

    def held_back(handler: object) -> None:
        asked.set()
        go.wait()
        whole()(handler)  # type: ignore[arg-type]

    config = site.archive(held_back, timeout=600.0)
    with process(config, tmp_path) as first:
        assert asked.wait(60)
        with process(config, tmp_path) as second:
            assert second.stderr is not None
            assert any("another process is at it" in line for line in second.stderr)
            go.set()
            results = [other.communicate()[0].strip() for other in (first, second)]
    assert results == [str(tmp_path / "downloads" / f"{SHA256[:12]}-a.zip")] * 2
    assert len(site.seen) == 1
