"""Every way in which a server can misbehave has its own message, and leaves nothing that looks finished."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from landuse.data.archive import obtain
from landuse.data.fetch import transfer
from landuse.errors import Interrupted, UserError

from .site import CONTENT, PAGE, SHA256, Handler, Site, archive, plain, redirect, stalls, status, whole
from .test_archive import left

AT = 70_000  # where transfers break


def fails(config, home: Path, *parts: str) -> str:
    """The download ends in one line with these parts; gives the line."""
    with pytest.raises(UserError) as caught:
        obtain(config, home)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def test_broken_off_then_resumed(site: Site, tmp_path: Path, waits: list[float]) -> None:
    config = site.archive(whole(breaks_at=AT), whole(breaks_at=2 * AT), whole())
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert [seen.range for seen in site.seen] == [None, f"bytes={AT}-", f"bytes={2 * AT}-"]
    assert site.seen[1].headers["If-Range"] == '"1"'
    assert len(waits) == 2


def test_a_try_that_came_further_does_not_count(site: Site, tmp_path: Path, waits: list[float]) -> None:
    steps = [whole(breaks_at=end) for end in range(1000, 10_000, 1000)]
    assert obtain(site.archive(*steps, whole(), retries=1), tmp_path).path.read_bytes() == CONTENT
    assert max(waits) < 2 * transfer.BACKOFF_S  # nor do the pauses grow


def test_broken_off_is_kept_for_the_next_call(site: Site, tmp_path: Path, waits: list[float]) -> None:
    config = site.archive(whole(breaks_at=AT), whole(breaks_at=AT), whole(breaks_at=AT), whole(), retries=2)
    config.retries = 1
    message = fails(config, tmp_path, f"broke the connection off after {AT} of {len(CONTENT)} bytes", "are kept in")
    assert "the next call goes on from there" in message
    assert sorted(left(tmp_path)) == [path for path in left(tmp_path) if ".part" in path] != []
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert site.seen[-1].range == f"bytes={AT}-"
    assert len(waits) == 2


def test_interrupted(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def interrupt(_: float) -> None:
        raise Interrupted(15)

    config = site.archive(whole(breaks_at=AT), whole())
    monkeypatch.setattr(transfer, "pause", interrupt)
    with pytest.raises(Interrupted):
        obtain(config, tmp_path)
    assert "the next call goes on from there" in caplog.text
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert site.seen[-1].range == f"bytes={AT}-"


def test_ranges_overlooked(site: Site, tmp_path: Path) -> None:
    headers = {"ETag": '"1"', "Content_Length": len(CONTENT)}
    config = site.archive(plain(CONTENT[:AT], **headers), plain(**headers))
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert site.seen[1].range == f"bytes={AT}-"


def test_nothing_to_resume_by_is_not_kept(site: Site, tmp_path: Path) -> None:
    """Without an ETag and a date the rest might be another content's."""
    config = site.archive(plain(CONTENT[:AT], Content_Length=len(CONTENT)))
    message = fails(config, tmp_path, f"after {AT} of {len(CONTENT)} bytes")
    assert "kept" not in message
    assert left(tmp_path) == []
    assert [seen.range for seen in site.seen] == [None] * 3


def test_changed_in_between(site: Site, tmp_path: Path) -> None:
    config = site.archive(whole(b"PK" + b"old" * 80_000, '"old"', breaks_at=AT), whole(etag='"new"'))
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert site.seen[1].headers["If-Range"] == '"old"'


@pytest.mark.parametrize("how", ["other ETag", "other start", "other length", "no range"])
def test_a_part_that_does_not_fit(site: Site, tmp_path: Path, how: str) -> None:
    """Of a server that overlooks If-Range, or sends something else than it was asked for."""
    start, length = (AT - 1 if how == "other start" else AT), len(CONTENT) + (how == "other length")
    headers = {"ETag": '"2"' if how == "other ETag" else '"1"', "Content-Length": length - start}
    if how != "no range":
        headers["Content-Range"] = f"bytes {start}-{length - 1}/{length}"

    def wrong(handler: Handler) -> None:
        handler.head(206, **headers)

    config = site.archive(whole(breaks_at=AT), wrong, whole(), retries=1)
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert [seen.range for seen in site.seen] == [None, f"bytes={AT}-", None]


def test_range_not_satisfiable(site: Site, tmp_path: Path) -> None:
    assert obtain(site.archive(whole(breaks_at=AT), status(416), whole(), retries=1), tmp_path)
    assert [seen.range for seen in site.seen] == [None, f"bytes={AT}-", None]


def test_part_of_wrong_content_is_replaced(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A power cut can leave a part of the right length with other bytes in it."""
    config = site.archive(whole(breaks_at=AT), status(403), whole(), retries=0)
    fails(config, tmp_path, "are kept")
    (part,) = (tmp_path / "downloads").glob("*.part")
    part.write_bytes(bytes(AT))
    fails(config, tmp_path, "answers 403")
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert [seen.range for seen in site.seen[-2:]] == [f"bytes={AT}-", None]


def test_complete_part_is_only_verified(site: Site, tmp_path: Path) -> None:
    config = site.archive(whole(breaks_at=AT), retries=0)
    fails(config, tmp_path, "are kept")
    (part,) = (tmp_path / "downloads").glob("*.part")
    part.write_bytes(CONTENT)
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert len(site.seen) == 1


def test_damaged_note(site: Site, tmp_path: Path) -> None:
    config = site.archive(whole(breaks_at=AT), whole(), retries=0)
    fails(config, tmp_path, "are kept")
    (note,) = (tmp_path / "downloads").glob("*.part.json")
    note.write_text("{")
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert site.seen[-1].range is None


def test_weak_etag_resumes_by_date(site: Site, tmp_path: Path) -> None:
    date = formatdate(0, usegmt=True)
    headers = {"Last-Modified": date, "ETag": 'W/"1"'}
    config = site.archive(plain(CONTENT[:AT], Content_Length=len(CONTENT), **headers), whole(etag=date, **headers))
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert site.seen[1].headers["If-Range"] == date


@pytest.mark.parametrize("code", [401, 403, 404, 410, 418])
def test_refused_without_another_try(site: Site, tmp_path: Path, waits: list[float], code: int) -> None:
    fails(site.archive(status(code)), tmp_path, f"answers {code}", "a.zip", "data.archive.url=file://")
    assert len(site.seen) == 1
    assert waits == left(tmp_path) == []


def test_gone_in_between(site: Site, tmp_path: Path) -> None:
    fails(site.archive(whole(breaks_at=AT), status(404)), tmp_path, "answers 404 (Not Found), as it has no such file")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7.0), ("100000", transfer.LONGEST_WAIT_S), (formatdate(0, usegmt=True), 0.0)]
)
def test_retry_after(site: Site, tmp_path: Path, waits: list[float], asked: str, waited: float) -> None:
    assert obtain(site.archive(status(429, Retry_After=asked), whole()), tmp_path)
    assert waits == [waited]


def test_overloaded_twice(site: Site, tmp_path: Path, waits: list[float]) -> None:
    assert obtain(site.archive(status(503), status(503, Retry_After="nan"), whole()), tmp_path)
    assert 0.75 <= waits[0] <= 1.25 <= 1.5 <= waits[1] <= 2.5


def test_overloaded_for_ever(site: Site, tmp_path: Path, waits: list[float]) -> None:
    fails(site.archive(status(503)), tmp_path, "answers 503 (Service Unavailable)", "try again later")
    assert len(waits) == 2
    assert left(tmp_path) == []


PAGES = {
    "by its type": plain(b"<p>Please log in", Content_Type="text/html; charset=utf-8"),
    "by its beginning": plain(b"\xef\xbb\xbf" + PAGE, Content_Type="application/zip", Content_Length=len(PAGE) + 3),
    "empty": plain(b"", Content_Type="text/html"),
}


@pytest.mark.parametrize("name", PAGES)
def test_page(site: Site, tmp_path: Path, name: str) -> None:
    fails(site.archive(PAGES[name]), tmp_path, f"127.0.0.1:{site.port} answers with a web page", "log in")
    assert left(tmp_path) == []
    assert len(site.seen) == 1


def test_an_archive_called_html_is_one(site: Site, tmp_path: Path) -> None:
    assert obtain(site.archive(plain(Content_Type="text/html")), tmp_path).path.read_bytes() == CONTENT


def test_redirected_to_a_page(site: Site, tmp_path: Path) -> None:
    site.has("/login", plain(PAGE, Content_Type="text/html"))
    config = site.archive(redirect(f"http://localhost:{site.port}/login?next=/a.zip&ticket=s3cret"))
    message = fails(config, tmp_path, f"redirects to http://localhost:{site.port}/login, which is a web page")
    assert "s3cret" not in message
    assert left(tmp_path) == []


def test_redirected_in_circles(site: Site, tmp_path: Path) -> None:
    fails(site.archive(redirect("/a.zip")), tmp_path, "redirects in circles")


def test_credentials_stay_with_their_host(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.has("/b.zip", whole())
    site.has("/a.zip", redirect(f"http://localhost:{site.port}/b.zip?signature=s3cret"))
    config = archive(f"http://me:p%40ss-s3cret@127.0.0.1:{site.port}/a.zip?token=s3cret")
    assert obtain(config, tmp_path)
    assert site.seen[0].headers["Authorization"].startswith("Basic ")
    assert "Authorization" not in site.seen[1].headers
    assert "s3cret" not in caplog.text


def test_nothing_secret_is_shown_or_kept(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.has("/a.zip", whole(breaks_at=AT))
    config = archive(f"http://me:s3cret@127.0.0.1:{site.port}/a.zip?X-Signature=s3cret")
    message = fails(config, tmp_path, f"http://127.0.0.1:{site.port}/a.zip could not")
    (note,) = (tmp_path / "downloads").glob("*.part.json")
    assert "s3cret" not in message + caplog.text + note.read_text()
    assert "127.0.0.1" not in json.loads(note.read_text())["address"]
    closed = archive("http://me:s3cret@127.0.0.1:9/a.zip?X-Signature=s3cret")
    assert "s3cret" not in fails(closed, tmp_path, "refuses the connection") + caplog.text


def test_stalls(site: Site, tmp_path: Path) -> None:
    config = site.archive(stalls(after=AT), timeout=0.5, retries=0)
    fails(config, tmp_path, "no byte came from 127.0.0.1", f"for 0.5 s after {AT} of", "data.archive.timeout=1")


def test_never_answers(site: Site, tmp_path: Path) -> None:
    config = site.archive(lambda handler: handler.site.ends.wait(), timeout=0.2, retries=1)
    fails(config, tmp_path, "no byte came from 127.0.0.1")
    assert len(site.seen) == 2
    assert left(tmp_path) == []


def test_drips(site: Site, tmp_path: Path) -> None:
    """Slow is not stalled: the limit counts from byte to byte."""

    def drips(handler: Handler) -> None:
        handler.head(200, Content_Length=len(CONTENT))
        step = len(CONTENT) // 20
        for start in range(0, len(CONTENT), step):
            handler.wfile.write(CONTENT[start : start + step])
            handler.wfile.flush()
            time.sleep(0.03)

    assert obtain(site.archive(drips, timeout=0.5), tmp_path).path.read_bytes() == CONTENT


def test_without_content_length(site: Site, tmp_path: Path) -> None:
    assert obtain(site.archive(plain()), tmp_path).path.read_bytes() == CONTENT
    fails(site.archive(plain(CONTENT[:AT]), sha256="1" * 64), tmp_path, "checksum")


def test_chunks(site: Site, tmp_path: Path) -> None:
    def chunked(*chunks: bytes):
        def answer(handler: Handler) -> None:
            handler.protocol_version = "HTTP/1.1"
            handler.head(200, Transfer_Encoding="chunked", Connection="close")
            for chunk in chunks:
                handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")

        return answer

    config = site.archive(chunked(CONTENT[:AT]), chunked(CONTENT[:AT], CONTENT[AT:], b""))
    assert obtain(config, tmp_path).path.read_bytes() == CONTENT
    assert len(site.seen) == 2  # the first broke off before its last chunk


def test_content_length_too_small(site: Site, tmp_path: Path) -> None:
    fails(site.archive(plain(Content_Length=AT)), tmp_path, "checksum")
    assert left(tmp_path) == []


def test_content_length_too_large(site: Site, tmp_path: Path) -> None:
    config = site.archive(plain(Content_Length=len(CONTENT) + 5))
    fails(config, tmp_path, f"after {len(CONTENT)} of {len(CONTENT) + 5} bytes")
    assert left(tmp_path) == []


def test_no_http(tmp_path: Path) -> None:
    """A server of another kind."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(10_000)
            connection.sendall(b"220 welcome\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        config = archive(f"http://127.0.0.1:{server.getsockname()[1]}/a.zip", retries=0)
        fails(config, tmp_path, "broke the connection off")


def test_tls_where_there_is_none(site: Site, tmp_path: Path) -> None:
    site.archive(whole())
    fails(archive(f"https://127.0.0.1:{site.port}/a.zip", retries=0), tmp_path, "does not speak TLS", "http://")


def test_untrusted_certificate(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography", reason="makes a certificate")
    from tests.cloud.test_https import certificate

    path, key = certificate(tmp_path)
    site.speak_tls(path, key)
    site.archive(whole())
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    config = archive(f"https://127.0.0.1:{site.port}/a.zip")
    fails(config, tmp_path, f"certificate of 127.0.0.1:{site.port} is not trusted", "self-signed", "REQUESTS_CA_BUNDLE")
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(path))
            fails(config, tmp_path, "is not trusted", "127.0.0.1'")  # its signer is now, but it is another host's


def test_missing_certificates(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    fails(archive(f"https://127.0.0.1:{site.port}/a.zip"), tmp_path, "trusted certificates", "REQUESTS_CA_BUNDLE")


def test_closed_port(tmp_path: Path, waits: list[float]) -> None:
    fails(archive("http://127.0.0.1:9/a.zip"), tmp_path, "127.0.0.1:9 refuses the connection", "file://")
    assert len(waits) == 2


def test_unknown_name(tmp_path: Path) -> None:
    fails(archive("http://nowhere.invalid/a.zip"), tmp_path, "nowhere.invalid cannot be resolved", "offline")


def test_proxy(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", f"http://me:s3cret@127.0.0.1:{site.port}")
    site.answers["http://far.invalid/a.zip"] = whole()
    assert obtain(archive("http://far.invalid/a.zip"), tmp_path).path.read_bytes() == CONTENT
    monkeypatch.setenv("http_proxy", "http://me:s3cret@127.0.0.1:9")
    message = fails(archive("http://far.invalid/b.zip", sha256="1" * 64), tmp_path, "through the proxy 127.0.0.1:9")
    assert "s3cret" not in message


def test_proxy_refuses(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("https_proxy", f"http://me:s3cret@127.0.0.1:{site.port}")
    message = fails(archive("https://far.invalid/a.zip"), tmp_path, f"the proxy 127.0.0.1:{site.port} refuses", "501")
    assert "s3cret" not in message
    assert waits == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 128 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_too_little_room(site: Site, small_disk: Path) -> None:
    message = fails(site.archive(whole()), small_disk, f"needs {len(CONTENT)} bytes", "data.home=PATH")
    assert f"free in {small_disk}" in message
    assert left(small_disk) == []


def test_full_in_the_middle(site: Site, small_disk: Path) -> None:
    fails(site.archive(plain()), small_disk, "No space left on device", "were removed", "data.home=PATH")
    assert left(small_disk) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full(site: Site, tmp_path: Path) -> None:
    """The same where nothing may be mounted: all that is written to this device fails for want of space."""
    config = site.archive(whole(), mirrors=[site.has("/m.zip", whole())])
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{SHA256[:12]}-a.zip.part").symlink_to("/dev/full")
    fails(config, tmp_path, "No space left on device", "data.home=PATH")
    assert left(tmp_path) == []
    assert len(site.seen) == 1  # a mirror would not help
