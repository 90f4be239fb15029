"""What the service tells about itself: metrics, logs, facts, its description, traces."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from landuse.monitoring.reference import make_reference, save
from landuse.serving.engine import Engine
from tests.serving.images import encoded, saved
from tests.serving.running import Running, running
from tests.serving.tiny_model import COLOURS, write_exported

SECRET = "quarry-at-my-house"


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families for sample in family.samples
    }  # fmt: skip


def test_metrics_count(client: httpx.Client) -> None:
    before = samples(client)
    client.post("/predict", files=[("file", encoded("roof")), ("file", encoded("roof")), ("file", b"x")])
    client.post("/predict", files={"file": b"x"})
    client.get("/a/path/of/my/own")
    after = samples(client)

    def grown(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert grown("landuse_predictions_total", "roof") == 2
    assert grown("landuse_images_refused_total", "unsupported_media_type") == 2
    assert grown("landuse_requests_total", "/predict", "200") == 1
    assert grown("landuse_requests_total", "/predict", "415") == 1
    assert grown("landuse_requests_total", "other", "404") == 1
    assert grown("landuse_confidence_count") == 2
    assert grown("landuse_batch_images_sum") == 2
    assert grown("landuse_request_duration_seconds_count", "/predict") == 2
    assert after[("process_resident_memory_bytes",)] > 1e7
    assert ("process_cpu_seconds_total",) in after
    assert after[("landuse_queue_images",)] == 0
    assert after[("landuse_workers_resident_memory_bytes",)] > 2e7  # of each of two
    assert after[("landuse_workers_cpu_seconds",)] > 0.1  # to start alone takes more


def test_promtool_finds_nothing(client: httpx.Client) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool, of the package prometheus")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=client.get("/metrics").text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_logs_hold_nothing_of_the_client(service: Running, client: httpx.Client) -> None:
    client.post("/predict", files={"file": (f"{SECRET}.png", b"x")}, headers={"user-agent": SECRET}, params={SECRET: 1})
    client.get(f"/{SECRET}")
    assert SECRET not in json.dumps(service.events)
    last = service.named("request")[-1]
    assert last.keys() == {"time", "severity", "event", "request_id", "route", "status", "ms"}
    assert "127.0.0.1" not in json.dumps(service.named("request"))


def test_request_ids(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for odd in ("a b", "x" * 65, '"}{'):
        assert client.get("/healthz", headers={"x-request-id": odd}).headers["x-request-id"] != odd
    first, second = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_facts(client: httpx.Client) -> None:
    facts = client.get("/model").json()
    assert facts["classes"] == ["field", "roof", "water"]
    assert facts["image_size"] == 16
    assert facts["limits"] == {"max_bytes": 300_000, "max_files": 4, "max_pixels": 1_000_000, "max_tiles": 2048}


def test_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert "default-src 'none'" in client.get("/").headers["content-security-policy"]


def test_description_is_complete(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    paths = description["paths"]
    assert {"/predict", "/model", "/readyz", "/metrics", "/drift", "/v2/models/{name}/infer"} <= paths.keys()
    assert {"200", "400", "408", "413", "415", "422", "429", "503"} <= paths["/predict"]["post"]["responses"].keys()
    assert client.get("/docs").status_code == 200
    assert client.get("/docs/assets/swagger-ui-bundle.js").status_code == 200


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """An export with a reference and samples: noisy pictures of the three colours."""
    folder = write_exported(tmp_path / "fp32")
    images = noisy(300, 0)
    answers = Engine(folder)(images)
    save(folder / "reference.safetensors", make_reference(images, answers.probabilities, answers.features))
    (folder / "samples").mkdir()
    (folder / "samples" / "roof.png").write_bytes(encoded("roof"))
    return folder


def noisy(count: int, seed: int, darker: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    colours = np.array(list(COLOURS.values()))[draws.integers(0, 3, count)]
    noise = draws.integers(-30, 31, (count, 16, 16, 3))
    return np.clip(colours[:, None, None, :] + noise - darker, 0, 255).astype(np.uint8)


def send(client: httpx.Client, images: np.ndarray) -> None:
    from PIL import Image

    for start in range(0, len(images), 25):
        files = [("file", saved(Image.fromarray(image), "PNG")) for image in images[start : start + 25]]
        assert client.post("/predict", files=files).status_code == 200


def test_drift_is_told_and_samples_are_served(watched: Path) -> None:
    with (
        running(watched, "drift.window=100", "drift.min_images=50", "drift.share=1") as service,
        service.client() as client,
    ):
        assert client.get("/drift").json()["state"] == "too_few"
        send(client, noisy(100, 1))
        calm = client.get("/drift").json()
        assert (calm["state"], calm["num_images"], calm["window"]) == ("ok", 100, 100)
        assert samples(client)[("landuse_drift",)] == 0
        send(client, noisy(100, 2, darker=40))
        alarmed = client.get("/drift").json()
        assert alarmed["state"] == "drift"
        assert alarmed["tests"][0]["drifted"]
        assert samples(client)[("landuse_drift",)] == 1
        (sample,) = client.get("/samples").json()["samples"]
        assert sample["name"] == "roof"
        assert client.get(sample["url"]).content == encoded("roof")
        assert client.get("/samples/1").status_code == 404
        assert client.get("/samples/-1").status_code == 404


def test_without_a_reference_drift_is_unavailable(client: httpx.Client) -> None:
    assert client.get("/drift").json()["state"] == "unavailable"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OpenTelemetry collector that keeps what it is sent."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


def test_traces(exported: Path, collector: tuple[str, list[bytes]]) -> None:
    address, received = collector
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running(exported, f"serve.traces={address}") as service:
        with service.client(traceparent=parent) as client:
            assert client.post("/predict", files={"file": encoded()}).status_code == 200
        assert service.stop() == 0
    spans = b"".join(received)
    assert b"/predict" in spans
    assert bytes.fromhex("0af7651916cd43dd8448eb211c80319c") in spans
