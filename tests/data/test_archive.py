"""Downloads, checked against a real HTTP server on loopback."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from landuse.config.schema import ArchiveConfig
from landuse.data.archive import obtain
from landuse.errors import UserError

CONTENT = b"the archive's content" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT as /good.zip, breaks off in the middle of /short.zip, and counts requests."""

    requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.requests += 1
        if self.path not in ("/good.zip", "/short.zip"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/good.zip" else CONTENT[:100])

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads_once_and_verifies(server, tmp_path: Path) -> None:
    running, url = server
    config = ArchiveConfig(url=f"{url}/good.zip", checksums=["md5:" + "0" * 32, f"sha256:{SHA256}"])
    first, second = obtain(config, tmp_path), obtain(config, tmp_path)
    assert first == second
    assert first.path.read_bytes() == CONTENT
    assert first.checksum == f"sha256:{SHA256}"
    assert running.requests == 1


def test_md5(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(CONTENT)
    md5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
    assert obtain(ArchiveConfig(url=file.as_uri(), checksums=[md5]), tmp_path).checksum == md5


def test_wrong_content_is_not_kept(server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"sha256:{SHA256}, expected sha256:{'1' * 64}"):
        obtain(ArchiveConfig(url=f"{server[1]}/good.zip", sha256="1" * 64), tmp_path)
    assert not list((tmp_path / "downloads").iterdir())


@pytest.mark.parametrize(("name", "reason"), [("missing.zip", "404|Not Found"), ("short.zip", "broke off after 100")])
def test_failed_download_leaves_nothing(server, tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        obtain(ArchiveConfig(url=f"{server[1]}/{name}", sha256=SHA256), tmp_path)
    assert not list((tmp_path / "downloads").iterdir())


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be downloaded.*file://"):
        obtain(ArchiveConfig(url="http://127.0.0.1:9/x.zip", sha256=SHA256), tmp_path)


def test_missing_local_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file .*nowhere.zip"):
        obtain(ArchiveConfig(url=f"file://{tmp_path}/nowhere.zip", sha256=SHA256), tmp_path)


def test_a_damaged_download_is_noticed_later(server, tmp_path: Path) -> None:
    config = ArchiveConfig(url=f"{server[1]}/good.zip", sha256=SHA256)
    path = obtain(config, tmp_path).path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="damaged or another one"):
        obtain(config, tmp_path)
