"""The service under load: ``python -m benchmarks.serving cnn=EXPORT resnet=EXPORT [image=FILE] [pairs=5] [soak=N]``.

EXPORT is an exported folder (``<run>/export/fp32``). Needs wrk and h2load, which the systems' packages have (wrk,
nghttp2-client); they run on the machine that serves, and take their share of its cores. Two regimes, each in turn with
its floor:

- bound by HTTP (``cnn``, a JPEG of 64 px): the floor is the same server when the route reads the upload and returns a
  constant;
- bound by arithmetic (``resnet``, a JPEG of its size): the floor is decoding and onnxruntime alone, in as many threads
  as there are cores, at the best batch size.

Then, of both: latency of a single client, and at half of the capacity; what is answered and refused at twice the
capacity, and right after it. Of the first: the memory over a soak, and the seconds from start to ready.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import measure
from landuse.data.decode import decode_square
from landuse.serving.engine import Engine

SERVE = [sys.executable, "-m", "landuse.serve"]
CONSTANT = [sys.executable, "-m", "benchmarks.serving_floor"]
BATCHES = (1, 2, 4, 8, 16, 32)
HEAD = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
SCRIPT = """
local f = io.open("{body}", "rb")
wrk.body, wrk.method = f:read("*a"), "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=XX"
"""


class Load:
    """Sends one image again and again."""

    def __init__(self, folder: Path, image: bytes) -> None:
        self._body, self._script = folder / "body", folder / "post.lua"
        self._body.write_bytes(HEAD + image + b"\r\n--XX--\r\n")
        self._script.write_text(SCRIPT.format(body=self._body))

    def capacity(self, address: str, seconds: int, connections: int = 64) -> float:
        """Requests a second of clients that ask again as soon as they are answered."""
        line = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s", str(self._script), f"{address}/predict"]
        out = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in out, out
        return float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])

    def at_rate(self, address: str, rate: float, seconds: int, clients: int) -> tuple[dict[int, int], list[float]]:
        """Answers by status, and seconds of those with 200, at so many requests a second."""
        log = self._body.with_name("log")
        log.unlink(missing_ok=True)
        line = [
            "h2load", "--h1", "-t1", f"-c{clients}", f"-n{round(rate * seconds)}", f"--rps={rate / clients}",
            # Clients start one after the other, or else they would ask all at once.
            f"-r{max(1, round(rate / 1000))}", f"--rate-period={max(1, round(1000 / rate))}ms",
            "-d", str(self._body), "-H", "content-type: multipart/form-data; boundary=XX", f"--log-file={log}",
            f"{address}/predict",
        ]  # fmt: skip
        subprocess.run(line, capture_output=True, check=True)
        rows = [row.split("\t") for row in log.read_text().splitlines()]
        statuses: dict[int, int] = {}
        for _, status, _ in rows:
            statuses[int(status)] = statuses.get(int(status), 0) + 1
        return statuses, [int(microseconds) / 1e6 for _, status, microseconds in rows if status == "200"]


class Server:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[str]", address: str, start_s: float) -> None:
        self.process, self.address, self.start_s = process, address, start_s

    @property
    def memory_mb(self) -> float:
        """RssAnon: memory of its own and of its workers that is in use, in MB."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        workers = [pid for thread in threads for pid in (thread / "children").read_text().split()]
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in (self.process.pid, *workers)]
        return sum(int(text.partition("RssAnon:")[2].split()[0]) for text in texts) / 1e3


@contextmanager
def serving(program: list[str], export: Path, *overrides: str) -> Iterator[Server]:
    started = time.perf_counter()
    line = [*program, f"run={export}", "serve.port=0", "serve.log_format=text", *overrides]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = ""
    while not address:
        text = process.stderr.readline()
        assert text, "the service has ended"
        address = text.partition("address=")[2].split()[0] if "address=" in text else ""
    seconds = time.perf_counter() - started
    threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()  # type: ignore[union-attr]
    try:
        yield Server(process, address, seconds)
    finally:
        process.terminate()
        process.wait(60)


def arithmetic_floor(export: Path, image: bytes, seconds: float) -> float:
    """Images a second of decoding and onnxruntime alone, at the best batch size."""
    engine = Engine(export, 1, max(BATCHES))
    size, num_threads = engine.model.image_size, len(os.sched_getaffinity(0))

    def rate(batch: int) -> float:
        counts, end = [0] * num_threads, time.perf_counter() + seconds

        def work(number: int) -> None:
            while time.perf_counter() < end:
                engine(np.stack([decode_square(image, "", size) for _ in range(batch)]))
                counts[number] += batch

        started = time.perf_counter()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(num_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - started)

    return max(rate(batch) for batch in BATCHES)


def jpeg(side: int) -> bytes:
    """A picture as compressible as photographs are."""
    coarse = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def bound_by_http(report: measure.Report, export: Path, load: Load, pairs: int, seconds: int) -> float:
    with serving(SERVE, export) as server, serving(CONSTANT, export) as floor:
        ours, theirs = measure.in_turn(
            pairs, lambda: load.capacity(server.address, seconds), lambda: load.capacity(floor.address, seconds)
        )
    report.add("bound by HTTP", "requests/s", ours)
    report.add("the same, a constant", "requests/s", theirs)
    report.ratio("bound by HTTP / constant", ours, theirs)
    return float(np.median(ours))


def bound_by_arithmetic(report: measure.Report, export: Path, folder: Path, pairs: int, seconds: int) -> None:
    size = Engine(export).model.image_size
    load = Load(folder, jpeg(size))
    with serving(SERVE, export) as server:
        ours, theirs = measure.in_turn(
            pairs,
            lambda: load.capacity(server.address, seconds, 32),
            lambda: arithmetic_floor(export, jpeg(size), seconds / len(BATCHES)),
        )
    report.add("bound by arithmetic", "requests/s", ours)
    report.add("decoding and onnxruntime alone", "images/s", theirs)
    report.ratio("bound by arithmetic / alone", ours, theirs)
    latency_and_overload(report, "bound by arithmetic: ", export, load, float(np.median(ours)), seconds)


def latency_and_overload(
    report: measure.Report, regime: str, export: Path, load: Load, capacity: float, seconds: int
) -> None:
    with serving(SERVE, export) as server:
        load.capacity(server.address, 2)  # warm
        _, single = load.at_rate(server.address, min(20, capacity / 4), seconds, 1)
        _, half = load.at_rate(server.address, capacity / 2, seconds, 16)
        report.add(f"{regime}latency of a single client", "ms", [1e3 * float(np.median(single))])
        report.add(f"{regime}p99 at half load", "ms", [1e3 * float(np.percentile(half, 99))])
        report.ratio(f"{regime}p99 at half load / single", [float(np.percentile(half, 99))], [float(np.median(single))])
        started = time.perf_counter()
        statuses, _ = load.at_rate(server.address, 2 * capacity, seconds, 256)
        took = time.perf_counter() - started
        report.add(f"{regime}asked for twice the capacity, sent", "requests/s", [sum(statuses.values()) / took])
        report.add(f"{regime}answered of these", "requests/s", [statuses.get(200, 0) / took])
        report.ratio(f"{regime}answered / capacity", [statuses.get(200, 0) / took], [capacity])
        others = sum(number for status, number in statuses.items() if status not in (200, 429))
        report.add(f"{regime}statuses besides 200 and 429", "requests", [float(others)])
        after, _ = load.at_rate(server.address, capacity / 2, 2, 16)
        report.add(f"{regime}refused right after it", "requests", [float(sum(after.values()) - after.get(200, 0))])


def soak(report: measure.Report, export: Path, load: Load, requests: int, capacity: float) -> None:
    with serving(SERVE, export) as server:
        report.add("start to ready", "s", [server.start_s])
        load.capacity(server.address, 5)  # warm
        memory, done = [server.memory_mb], 0.0
        seconds = max(2, round(requests / capacity / 10))
        while done < requests:
            done += load.capacity(server.address, seconds) * seconds
            memory.append(server.memory_mb)
    report.add(f"memory over {done:,.0f} requests", "MB", memory)


def main() -> None:
    """Run all of it on the exports given."""
    own, _ = measure.split_options(sys.argv[1:], cnn="", resnet="", image="", pairs=5, seconds=6, soak=100_000)
    report = measure.Report("serving", own)
    with tempfile.TemporaryDirectory() as folder:
        if own["cnn"]:
            export = Path(own["cnn"]).resolve()
            image = Path(own["image"]).read_bytes() if own["image"] else jpeg(64)
            load = Load(Path(folder), image)
            capacity = bound_by_http(report, export, load, own["pairs"], own["seconds"])
            latency_and_overload(report, "", export, load, capacity, own["seconds"])
            soak(report, export, load, own["soak"], capacity)
        if own["resnet"]:
            bound_by_arithmetic(report, Path(own["resnet"]).resolve(), Path(folder), own["pairs"], own["seconds"])
    report.finish()


if __name__ == "__main__":
    main()
