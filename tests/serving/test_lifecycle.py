"""Starting, stopping, reloading, and who may ask."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Run
from tests.serving.images import encoded
from tests.serving.running import Running, running
from tests.serving.tiny_model import write_exported

KEY = "a key of the tests"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def metrics_of(service: Running) -> str:
    with service.client() as client:
        return client.get("/metrics").text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_is_under_way_and_exits_0(exported: Path, number: int) -> None:
    answers, photo = [], encoded(size_px=4000)
    with running(exported, "serve.lanes=1", "serve.max_batch=1") as service:

        def ask() -> None:
            with service.client() as client, contextlib.suppress(httpx.ConnectError):  # who comes too late
                answers.append(client.post("/predict", files={"file": photo}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: any(f"landuse_queue_images {n}.0" in metrics_of(service) for n in range(3, 8)))
        assert service.stop(number) == 0
        for thread in threads:
            thread.join()
    assert set(answers) == {200}
    assert len(answers) >= 4
    assert service.named("stopping")
    assert service.named("stopped")


def test_reload_takes_a_new_model_and_no_request_fails(tmp_path: Path) -> None:
    folder = write_exported(tmp_path / "fp32")
    with (
        running(folder, "serve.lanes=2", LANDUSE_API_KEY=KEY) as service,
        service.client(**{"x-api-key": KEY}) as client,
    ):
        statuses, versions, names, stop = [], set(), set(), threading.Event()

        def ask() -> None:
            with service.client(**{"x-api-key": KEY}) as own:
                while not stop.is_set():
                    response = own.post("/predict", files=[("file", encoded("water"))] * 5)
                    statuses.append(response.status_code)
                    versions.add(response.json()["model"]["version"])
                    names.update(result["predictions"][0]["class"] for result in response.json()["results"])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        before = client.get("/model").json()["version"]
        wait_until(lambda: before in versions)
        newer = write_exported(tmp_path / "newer", classes=("water", "roof"))
        for name in ("model.onnx", "onnx.json"):
            shutil.copy(newer / name, folder / name)
        assert client.post("/reload").status_code == 200
        after = client.get("/model").json()
        wait_until(lambda: after["version"] in versions)
        stop.set()
        for thread in threads:
            thread.join()
        assert after["version"] != before
        assert after["classes"] == ["water", "roof"]
        assert set(statuses) == {200}
        assert versions == {before, after["version"]}
        assert names == {"water"}  # no image of a request is answered by one model and named by the other


def test_a_damaged_model_is_not_taken(tmp_path: Path) -> None:
    folder = write_exported(tmp_path / "fp32")
    with running(folder, LANDUSE_API_KEY=KEY) as service, service.client(**{"x-api-key": KEY}) as client:
        (folder / "model.onnx").write_bytes(b"damaged")
        response = client.post("/reload")
        assert response.status_code == 503
        assert "damaged" not in response.text
        assert service.named("reload failed")
        assert client.post("/predict", files={"file": encoded()}).status_code == 200


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_sighup_reloads(tmp_path: Path) -> None:
    folder = write_exported(tmp_path / "fp32")
    with running(folder) as service, service.client() as client:
        assert client.post("/reload").status_code == 404
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.named("reloaded"))
        assert client.post("/predict", files={"file": encoded()}).status_code == 200


def test_key(exported: Path) -> None:
    with running(exported, LANDUSE_API_KEY=KEY) as service:
        with service.client() as client:
            for path in ("/", "/healthz", "/readyz", "/v2/health/live"):
                assert client.get(path).status_code == 200
            for path in ("/model", "/metrics", "/drift", "/samples", "/v2", "/v2/models/landuse"):
                assert client.get(path).status_code == 401
            refused = client.post("/predict", files={"file": encoded()})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert KEY not in refused.text
        for headers in ({"x-api-key": KEY + "x"}, {"authorization": f"Basic {KEY}"}, {"x-api-key": ""}):
            assert httpx.get(f"{service.address}/model", headers=headers).status_code == 401
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
            assert httpx.get(f"{service.address}/model", headers=headers).status_code == 200
    assert KEY not in str(service.events)


def test_other_sites_may_ask_only_where_allowed(exported: Path, service: object, client: httpx.Client) -> None:
    asked = {"origin": "https://map.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/predict", headers=asked).headers
    assert "access-control-allow-origin" not in client.get("/model", headers=asked).headers
    with running(exported, "serve.cors_origins=[https://map.example]") as open_service, open_service.client() as own:
        allowed = own.options("/predict", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://map.example"
        other = own.get("/model", headers={"origin": "https://else.example"})
        assert "access-control-allow-origin" not in other.headers


def test_port_of_the_environment(exported: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running(exported, "serve.port=null", PORT=str(port)) as service:
        assert service.port == port


def test_mistakes_end_in_a_sentence(exported: Path, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finished = command("serve", f"run={exported}", f"serve.port={taken.getsockname()[1]}")
    assert finished.status == 2
    assert "Choose another port" in finished.err
    assert command("serve", f"run={exported}", "serve.host=256.1.1.1").status == 2
    assert command("serve", f"run={exported}", "serve.lanes=0").status == 2
    assert command("serve", f"run={exported}", "serve.cors_origins=[map.example/x]").status == 2
    assert "variant" in command("serve", f"run={exported}", "variant=int4").err
    assert command("serve", "run=nowhere").status == 2
    monkeypatch.setenv("PORT", "http")
    finished = command("serve", f"run={exported}")
    assert finished.status == 2
    assert "PORT=http" in finished.err


@pytest.mark.parametrize("damage", ["cut", "other", "missing", "json"])
def test_damaged_exports_are_refused(tmp_path: Path, command: Run, damage: str) -> None:
    folder = write_exported(tmp_path / "fp32")
    content = (folder / "model.onnx").read_bytes()
    if damage == "cut":
        (folder / "model.onnx").write_bytes(content[:100])
    elif damage == "other":
        (folder / "model.onnx").write_bytes(content.replace(b"images", b"imagez"))
    elif damage == "missing":
        (folder / "model.onnx").unlink()
    else:
        (folder / "onnx.json").write_text('{"format": "landuse-onnx"}')
    finished = command("serve", f"run={folder}", "serve.port=0")
    assert finished.status == 2
    assert "Export the run again" in finished.err


def test_no_torch_in_the_process(exported: Path) -> None:
    """Imported by nothing that serving needs, whether or not it is installed."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None; import landuse.serve;"
        "import landuse.serving.server; from pathlib import Path; from landuse.serving.engine import Engine;"
        f"Engine(Path({str(exported)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)
