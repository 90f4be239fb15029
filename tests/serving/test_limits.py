"""What slow, broken and greedy clients get, on the wire."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.serving.images import encoded
from tests.serving.running import Running, running
from tests.serving.test_lifecycle import metrics_of, wait_until

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
SMALL = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
SMALL += b"x" * (70 - len(SMALL) - 9) + b"\r\n--x--\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(service: Running) -> Iterator[Connect]:
    opened = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", service.port), timeout=20))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def all_of(connection: socket.socket) -> bytes:
    """What is sent until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def is_well(service: Running) -> bool:
    with service.client() as client:
        return client.post("/predict", files={"file": encoded()}).status_code == 200


def test_slow_headers(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(HEAD[:30])
    assert b"408" in all_of(connection).partition(b"\r\n")[0]
    assert is_well(service)


def test_nothing_is_sent(service: Running, connect: Connect) -> None:
    assert b"408" in all_of(connect()).partition(b"\r\n")[0]


def test_headers_drop_by_drop_on_a_second_request(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while b"alive" not in answer:
        answer += connection.recv(65536)
    connection.sendall(b"GET /hea")
    assert b"408" in all_of(connection).partition(b"\r\n")[0]


def test_slow_body(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--x")
    answer = all_of(connection)
    assert b"408" in answer.partition(b"\r\n")[0]
    assert b"to arrive" in answer
    assert is_well(service)


def test_connection_lost_in_the_body(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--x")
    connection.close()
    assert is_well(service)


def test_endless_headers(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\n")
    assert is_cut(connection, b"X-A: " + b"a" * 1000 + b"\r\n")
    assert is_well(service)


def test_no_http(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    answer = all_of(connection)
    assert b"400" in answer.partition(b"\r\n")[0]
    assert b'"code": "bad_request"' in answer


def is_cut(connection: socket.socket, data: bytes, pause_s: float = 0.0) -> bool:
    """Whether the other side ends a connection on which the same data is sent again and again."""
    started = time.monotonic()
    with suppress(OSError):  # reset or a broken pipe, as the system likes
        while time.monotonic() < started + 20:
            connection.sendall(data)
            time.sleep(pause_s)
        return False
    return True


def test_endless_trailers(service: Running, connect: Connect) -> None:
    """They come after the body, when the request has long been answered."""
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ")
    assert is_cut(connection, b"a" * 65_536)
    assert is_well(service)


def test_a_body_that_nobody_reads(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    assert is_cut(connection, b"a" * 65_536)
    assert is_well(service)


def test_an_answered_request_that_never_ends(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\na")
    assert b"alive" in all_of_or_reset(connection)


def test_empty_lines_keep_no_connection(service: Running, connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.3)
    connection.sendall(b"\r\n")
    assert b"alive" in all_of_or_reset(connection)


def all_of_or_reset(connection: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_thousands_of_pipelined_requests(service: Running, connect: Connect) -> None:
    connection = connect()
    with suppress(OSError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000)
    all_of_or_reset(connection)
    assert is_well(service)


def test_who_does_not_read_is_cut_off(service: Running) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", service.port))
    script = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    connection.sendall(script * 8)
    time.sleep(3)  # longer than the service waits
    assert len(all_of_or_reset(connection)) < 8_000_000
    connection.close()
    assert is_well(service)


@pytest.mark.parametrize("offer", [b"Upgrade: h2c", b"upgrade: h2c", b"UPGRADE: websocket"])
def test_offers_of_other_protocols(service: Running, connect: Connect, offer: bytes) -> None:
    """A body after one is still a body: clients of Java make such offers, and smugglers."""
    with service.client() as client:
        request = client.build_request("POST", "/predict", files={"file": encoded("roof")})
    body = request.read()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {request.headers['content-type']}\r\n".encode()
    connection = connect()
    length = b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.sendall(head + b"Connection: Upgrade, HTTP2-Settings, close\r\n" + offer + length + body)
    answer = all_of(connection)
    assert b'"class":"roof"' in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("length", [b"-1", b"abc", b"99999999999999999999999", b"1e3"])
def test_odd_lengths(service: Running, connect: Connect, length: bytes) -> None:
    connection = connect()
    connection.sendall(HEAD + b"Content-Length: " + length + b"\r\n\r\n")
    status = all_of(connection).partition(b"\r\n")[0]
    assert b" 400 " in status or b" 413 " in status
    assert is_well(service)


def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    connection = connect()
    connection.sendall(
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    answer = all_of(connection)
    assert answer.index(b"alive") < answer.index(b"ready")


def test_more_connections_than_allowed(exported: Path) -> None:
    with running(exported, "serve.max_connections=20", "serve.lanes=1") as service:
        connections = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(40)]
        refused = 0
        for connection in connections[20:]:
            refused += b"503" in all_of(connection).partition(b"\r\n")[0]
        assert refused == 20
        for connection in connections:
            connection.close()
        time.sleep(0.2)
        assert is_well(service)


def test_thousands_of_connections(exported: Path) -> None:
    """Idle ones hold no thread, and a client beside them is answered."""
    with running(exported, "serve.max_connections=3000", "serve.lanes=1") as service:
        threads = service.num_threads
        connections = []
        try:
            address = ("127.0.0.1", service.port)
            connections.extend(socket.create_connection(address, timeout=20) for _ in range(2000))
            assert is_well(service)
            assert service.num_threads <= threads + 2
        finally:
            for connection in connections:
                connection.close()
        assert is_well(service)


def test_a_full_queue_refuses_at_once_and_recovers(exported: Path) -> None:
    """One lane, two places: of forty clients that ask at once until they are answered some are refused with 429."""
    import threading

    photo, statuses = encoded(form="PNG", size_px=1500), []
    limits = ["serve.lanes=1", "serve.max_batch=1", "serve.max_queue=2", "serve.max_files=2"]
    with running(exported, *limits) as service:

        def ask() -> None:
            with service.client() as client:
                for _ in range(10_000):
                    response = client.post("/predict", files={"file": photo})
                    statuses.append(response.status_code)
                    if response.status_code != 429:
                        break
                    assert response.headers["retry-after"] == "1"
                    assert response.headers["x-content-type-options"] == "nosniff" and response.headers["date"]
                    assert response.json()["error"]["code"] == "busy"

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200, 429} and statuses.count(200) == 40
        assert is_well(service)
        counted = f'landuse_requests_total{{route="/predict",status="429"}} {statuses.count(429)}.0'
        wait_until(lambda: counted in metrics_of(service))
        wait_until(lambda: any(one["count"] for one in service.named("requests refused unheard")))


@contextlib.contextmanager
def full(exported: Path) -> Iterator[Running]:
    """A service whose only worker hangs and whose queue is full."""
    limits = ["serve.lanes=1", "serve.max_queue=2", "serve.max_files=2", "serve.max_bytes=9_000_000"]
    with running(exported, *limits, "serve.upload_timeout_s=3") as service, contextlib.ExitStack() as stack:
        os.kill(service.workers[0], signal.SIGSTOP)
        for _ in range(4):  # one is with the worker, two wait
            waiting = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=20))
            waiting.sendall(HEAD + b"Content-Length: 70\r\n\r\n" + SMALL)
        wait_until(lambda: "landuse_queue_images 2.0" in metrics_of(service))
        yield service
        os.kill(service.workers[0], signal.SIGCONT)


def test_who_is_refused_unheard_finds_the_next_answer(exported: Path) -> None:
    """A request is refused when its headers are there; its body, which comes later, is no part of the next request."""
    with full(exported) as service, socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(HEAD + b"Content-Length: 70\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        connection.sendall(SMALL)
        time.sleep(4)  # nothing is said meanwhile, which could pass for the next answer
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b'{"status":"alive"}' not in answer:
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("header", [b"Expect: 100-continue\r\n", b"Connection: close\r\n"])
def test_who_ends_the_connection_is_refused_once_all_is_read(exported: Path, header: bytes) -> None:
    body = SMALL.replace(b"x\r\n--x--", b"x" * 8_000_000 + b"\r\n--x--")
    with full(exported) as service, socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(HEAD + header + f"Content-Length: {len(body)}\r\n\r\n".encode())
        first = connection.recv(65536) if b"Expect" in header else b""
        connection.sendall(body)
        answer = first
        while b'"busy"' not in answer:
            answer += connection.recv(65536)
        assert b"HTTP/1.1 429 " in answer


def test_who_waits_too_long_is_told(exported: Path) -> None:
    import threading

    statuses = []
    photo = encoded(size_px=3000)
    with running(exported, "serve.lanes=1", "serve.max_batch=1", "serve.deadline_s=1.5") as service:

        def ask() -> None:
            with httpx.Client(base_url=service.address, timeout=30) as client:
                statuses.append(client.post("/predict", files={"file": photo}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 503 in statuses and set(statuses) <= {200, 503}
        assert is_well(service)


def test_uploads_share_a_budget_of_memory(exported: Path) -> None:
    """While one client's upload is under way, which takes all there is, others are told to come back."""
    with running(exported, "serve.max_bytes=1_000_000", "serve.max_pending_bytes=1_000_000") as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as slow:
            slow.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n--x" + bytes(999_900))
            statuses = []
            for _ in range(200):  # until its headers have arrived
                with service.client() as client:
                    statuses.append(client.post("/predict", files={"file": encoded()}).status_code)
                if statuses[-1] == 429:
                    break
            assert set(statuses) <= {200, 429}
            assert statuses[-1] == 429
        time.sleep(0.2)
        assert is_well(service)


def test_the_port_is_freed(exported: Path) -> None:
    with running(exported) as service:
        port = service.port
    with closing(socket.socket()) as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
