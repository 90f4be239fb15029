"""Google's own addresses over HTTPS, through a proxy, as in a company's network, and a person's login."""

import base64
import contextlib
import datetime
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from .conftest import DEFAULTS, TOKEN, Checkout, FakeGoogle, QuietServer, Reply
from .test_preflight import PATIENT, lines, refused


class Proxy:
    """Leads every CONNECT to the fake server, or refuses it."""

    def __init__(self, google: FakeGoogle, status: int = 200) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                self.send_response(proxy.status)
                self.end_headers()
                if proxy.status == 200:
                    proxy.asked.append(self.path)
                    with socket.create_connection(google.server.server_address[:2]) as server:
                        back = threading.Thread(target=pump, args=(server, self.connection))
                        back.start()
                        pump(self.connection, server)
                        back.join()

            def log_message(self, format: str, *args: object) -> None:
                pass

        proxy = self
        self.status, self.asked = status, list[str]()
        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for Google's hosts that its own maker signed, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a company's proxy")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.googleapis.com")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "certificate.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture
def proxy(checkout: Checkout, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the fake server under Google's names, for a remote without any special setting."""
    path, key = certificate(checkout.root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    google.server.socket = context.wrap_socket(google.server.socket, server_side=True)
    made = Proxy(google)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@{made.host}")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    checkout.remote(url="gs://my-bucket/dvc")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def login(checkout: Checkout) -> None:
    """What ``gcloud auth application-default login`` leaves."""
    person = {"type": "authorized_user", "client_id": "c", "client_secret": "s3cret", "refresh_token": "s3cret"}
    path = checkout.root / "elsewhere" / "cloudsdk_config" / "application_default_credentials.json"
    path.write_text(json.dumps(person))


@pytest.mark.usefixtures("login")
def test_a_persons_login(command, google: FakeGoogle, proxy: Proxy) -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"email": "ada@example.org"}).encode()).decode().rstrip("=")
    google.replies["token"] = Reply(body=DEFAULTS["token"].body | {"id_token": f"e30.{payload}.e30"})
    said = lines(command("storage", PATIENT))
    assert said["account"].startswith("ada@example.org (a person's login")
    assert said["bucket"] == "gs://my-bucket/dvc (remote 'storage', DVC's default)"
    assert set(proxy.asked) == {"oauth2.googleapis.com:443", "storage.googleapis.com:443"}
    google.denies()
    refused(command("storage", PATIENT), "lacks storage.objects.list", "--member=user:ada@example.org")


@pytest.mark.usefixtures("login")
def test_a_login_without_an_address(command, google: FakeGoogle, proxy: Proxy) -> None:
    assert lines(command("storage", PATIENT))["account"].startswith("the person logged in with gcloud")
    google.denies()
    refused(command("storage", PATIENT), "--member=user:EMAIL")


@pytest.mark.usefixtures("login")
def test_a_login_revoked(command, google: FakeGoogle, proxy: Proxy) -> None:
    denied = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    google.replies["token"] = Reply(400, denied)
    refused(command("storage", PATIENT), "expired or revoked", "gcloud auth application-default login")


@pytest.mark.usefixtures("login")
def test_certificate_not_trusted(command, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    refused(command("storage", PATIENT), "certificate of oauth2.googleapis.com is not trusted", "SSL_CERT_FILE")


@pytest.mark.usefixtures("login")
def test_proxy_refuses(command, proxy: Proxy) -> None:
    proxy.status = 407
    refused(command("storage", PATIENT), f"through the proxy {proxy.host}", "407")


@pytest.mark.usefixtures("login")
def test_proxy_is_down(command, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{unused.getsockname()[1]}")
    refused(command("storage", PATIENT), "through the proxy 127.0.0.1", "refuses the connection")


def test_nothing_of_a_token_is_shown(command, checkout: Checkout, google: FakeGoogle) -> None:
    """Not even where a server sends back what it was sent."""
    checkout.file("key.json", checkout.key(google.url))
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url, credentialpath="../key.json")
    google.replies["list"] = Reply(403, {"error": {"message": f"No: Bearer {TOKEN}"}})
    refused(command("storage", PATIENT), "No: Bearer (hidden)")
