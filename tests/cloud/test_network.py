"""A network that is down, slow or in between."""

import contextlib
import socket
import threading
import time

import pytest

from .conftest import Checkout, FakeGoogle, Reply
from .test_preflight import PATIENT, refused


def test_connection_refused(command, checkout: Checkout) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=f"http://{host}", allow_anonymous_login="true")
    refused(command("storage", PATIENT), f"{host} refuses the connection", "endpointurl")


def test_unknown_name(command, checkout: Checkout, monkeypatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    checkout.remote(url="gs://my-bucket/dvc", allow_anonymous_login="true")
    refused(command("storage", PATIENT), "storage.googleapis.com cannot be resolved", "DNS")


def test_name_lookup_hangs(command, checkout: Checkout, monkeypatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(120))
    checkout.remote(url="gs://my-bucket/dvc", allow_anonymous_login="true")
    done = command("storage", "storage.timeout_s=0.3")
    refused(done, "No answer from storage.googleapis.com within 0.3 s", "storage.timeout_s=10")


@pytest.mark.parametrize("slow", ["token", "list", "permissions"])
def test_no_answer_in_time(command, service_account: Checkout, google: FakeGoogle, slow: str) -> None:
    google.replies[slow] = Reply(delay_s=5)
    refused(command("storage", "storage.timeout_s=0.5"), f"No answer from {google.host}", "network")


def test_connection_broken_off(command, checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        checkout.remote(url="gs://my-bucket/dvc", endpointurl=f"https://{host}", allow_anonymous_login="true")
        server.settimeout(30)

        def close() -> None:
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    server.accept()[0].close()

        threading.Thread(target=close, daemon=True).start()
        refused(command("storage", PATIENT), host, "check the address")


def test_http_behind_an_https_address(command, checkout: Checkout, google: FakeGoogle) -> None:
    url = google.url.replace("http:", "https:")
    checkout.remote(url="gs://my-bucket/dvc", endpointurl=url, allow_anonymous_login="true")
    refused(command("storage", PATIENT), "does not speak TLS", "http://")
