"""Servers on loopback that stand for Google's, and a checkout of DVC that knows nothing of this machine's accounts."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cloud.apis import TOKEN, Apis, QuietServer, Tool
from tests.cloud.script import Done, tool

EMAIL = "ci@my-project.iam.gserviceaccount.com"
OF_THIS_MACHINE = (
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "STORAGE_EMULATOR_HOST",
    "GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP", "K_SERVICE", "CLOUD_RUN_JOB", "GITHUB_REPOSITORY",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip


@dataclass
class Reply:
    """What a path is answered with: JSON of a dictionary, or bytes as they are."""

    status: int = 200
    body: dict[str, Any] | bytes = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class FakeGoogle:
    """Token endpoint, JSON API and metadata server at once; a test sets what its paths answer."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.seen: list[tuple[str, dict[str, str], dict[str, list[str]]]] = []  # path, headers, query or form
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                fake.seen.append((parts.path, headers, parse_qs(body or parts.query)))
                reply = fake.reply(parts.path, parts.query)
                time.sleep(reply.delay_s)
                data = json.dumps(reply.body).encode() if isinstance(reply.body, dict) else reply.body
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(data)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + fake.clock_ahead_s)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.clock_ahead_s = 0.0
        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def reply(self, path: str, query: str) -> Reply:
        if path.endswith("/o") and "delimiter" in query:
            return self.replies.get("top", Reply(body={"prefixes": ["dvc/"]}))
        for name, suffix in {"token": "/token", "list": "/o", "permissions": "/iam/testPermissions"}.items():
            if path.endswith(suffix):
                return self.replies.get(name, DEFAULTS[name])
        return self.replies.get(path.rpartition("/")[2], Reply(404))

    def denies(self, *granted: str) -> None:
        """Let the account have these permissions on the bucket and no other."""
        self.replies["permissions"] = Reply(body={"permissions": list(granted)} if granted else {})
        if "storage.objects.list" not in granted:
            message = f"{EMAIL} does not have storage.objects.list access to the Google Cloud Storage bucket."
            self.replies["list"] = self.replies["top"] = Reply(403, {"error": {"code": 403, "message": message}})


GRANTED = ["storage.objects.get", "storage.objects.list", "storage.objects.create"]
DEFAULTS = {
    "token": Reply(body={"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}),
    "list": Reply(body={"items": [{"name": "dvc/files/md5/00/11"}]}),
    "permissions": Reply(body={"permissions": GRANTED}),
}


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    """A server of one's own, so that no test sees another's requests."""
    fake = FakeGoogle()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture(scope="session")
def private_key() -> str:
    """A real RSA key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded.decode()


@dataclass
class Checkout:
    """A folder with ``.dvc`` in it, in which the commands run."""

    root: Path
    private_key: str

    def config(self, text: str, file: str = "config") -> None:
        """Write one of DVC's configuration files."""
        (self.root / ".dvc").mkdir(exist_ok=True)
        (self.root / ".dvc" / file).write_text(text)

    def remote(self, **settings: str) -> None:
        """Make one remote, the default, called "storage"."""
        lines = [f"    {key} = {value}" for key, value in settings.items()]
        self.config("\n".join(["[core]", "    remote = storage", "['remote \"storage\"']", *lines, ""]))

    def file(self, name: str, content: dict[str, Any] | str) -> Path:
        """Write a file beside ``.dvc``."""
        path = self.root / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def key(self, token_server: str, **changes: Any) -> dict[str, Any]:
        """A service account's key, as Google writes it."""
        return {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": "0123",
            "private_key": self.private_key,
            "client_email": EMAIL,
            "token_uri": f"{token_server}/token",
        } | changes


@pytest.fixture
def checkout(tmp_path: Path, private_key: str, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """An empty project in the folder where ``command`` runs, with nobody logged in and no settings of the user's."""
    pytest.importorskip("dvc_gs", reason="needs the extra 'cloud'")
    for variable in OF_THIS_MACHINE:
        monkeypatch.delenv(variable, raising=False)
    elsewhere = tmp_path / "elsewhere"
    for variable in ("DVC_SYSTEM_CONFIG_DIR", "DVC_GLOBAL_CONFIG_DIR", "CLOUDSDK_CONFIG", "HOME"):
        folder = elsewhere / variable.lower()
        folder.mkdir(parents=True)
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # the tests may run on a machine of Google's
    return Checkout(tmp_path, private_key)


@pytest.fixture
def service_account(checkout: Checkout, google: FakeGoogle) -> Checkout:
    """A remote whose account and bucket are as they should be, all on the fake server."""
    checkout.file("key.json", checkout.key(google.url))
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=google.url, credentialpath="../key.json")
    return checkout


@dataclass
class Emulator:
    """A storage server in this process."""

    url: str
    put: Callable[..., None]  # bucket, names of objects


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """The storage emulator, with one bucket of data and one empty bucket."""
    from gcp_storage_emulator.handlers.buckets import create_bucket
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()

    def put(bucket: str, *names: str) -> None:
        create_bucket(bucket, server._storage)
        for name in names:
            server._storage.create_file(bucket, name, b"x", {"name": name, "bucket": bucket, "size": "1"})

    put("full-bucket", "dvc/files/md5/aa/bb", "raw/a.tif", "models/b.pt")
    put("empty-bucket")
    yield Emulator(f"http://127.0.0.1:{server._api._httpd.server_address[1]}", put)
    server.stop()


@pytest.fixture
def apis() -> Iterator[Apis]:
    started = Apis()
    started.on("GET", "/v3/projects/my-project", (200, {"name": "projects/123", "projectId": "my-project"}))
    started.on("GET", "/services/landuse", (200, {"uri": "https://landuse-x.a.run.app"}))
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture
def cloud(apis: Apis, checkout: Checkout) -> Tool:
    """The script with an account, asking the server of this machine."""
    key = checkout.file("key.json", checkout.key(apis.url))

    def run(*words: str, **environment: str) -> Done:
        return tool(
            *words,
            **{
                "GOOGLE_APPLICATION_CREDENTIALS": str(key), "LANDUSE_CLOUD_ENDPOINT": apis.url,
                "LANDUSE_CLOUD_PAUSE_S": "0.01",
            }
            | environment,
        )  # fmt: skip

    return run
