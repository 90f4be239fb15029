"""What Prometheus may ask the service, in names and units as it wants them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCH_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
CONFIDENCES = tuple(i / 20 for i in range(2, 21))


class Metrics:
    """Counters and histograms of one service, in a registry of its own."""

    def __init__(self, state: Callable[[], Iterable[Metric]]) -> None:
        """
        Args:
            state: is asked at every scrape for what has a value now, rather than a count so far.
        """
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_State(state))
        self._requests = self._counter("requests", "Requests by route and HTTP status.", "route", "status")
        self._refused = self._counter("images_refused", "Images and requests without an answer, by reason.", "reason")
        self._predicted = self._counter("predictions", "Images answered, by their most probable class.", "class")
        self._latency = self._histogram("request_duration_seconds", "From headers to answer.", LATENCY_S, "route")
        self._confidence = self._histogram("confidence", "Probability of the most probable class.", CONFIDENCES)
        self._batch = self._histogram("batch_images", "Images a batch.", BATCH_IMAGES)
        self._decoding = self._histogram("batch_decoding_seconds", "Decoding of a batch.", LATENCY_S)
        self._inference = self._histogram("batch_inference_seconds", "The model's answer to a batch.", LATENCY_S)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def shed(self, route: str) -> None:
        """Count a request that was refused unheard, which took no time."""
        self._requests.labels(route, "429").inc()
        self._refused.labels("busy").inc()

    def refused(self, reason: str) -> None:
        """Count an image or a request that got no answer."""
        self._refused.labels(reason).inc()

    def answered(self, name: str, confidence: float) -> None:
        """Count an image that was answered."""
        self._predicted.labels(name).inc()
        self._confidence.observe(confidence)

    def batch(self, size: int, decoding_s: float, inference_s: float) -> None:
        """Count a batch."""
        self._batch.observe(size)
        self._decoding.observe(decoding_s)
        self._inference.observe(inference_s)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"landuse_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"landuse_{name}", text, labels, buckets=buckets, registry=self._registry)


def gauge(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> Metric:
    """A value of the moment."""
    family = GaugeMetricFamily(f"landuse_{name}", text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), value)
    return family


def of_processes(pids: Iterable[int]) -> Iterator[Metric]:
    """Memory and time of other processes together, where the system tells (Linux)."""
    totals = {"process_resident_memory_bytes": 0.0, "process_cpu_seconds_total": 0.0}
    for pid in pids:
        for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            for sample in family.samples:
                if sample.name in totals:
                    totals[sample.name] += sample.value
    memory, seconds = totals.values()
    yield gauge("workers_resident_memory_bytes", "Memory of the processes that decode and answer.", memory)
    yield gauge("workers_cpu_seconds", "Processor time of those that there are now.", seconds)


class _State(Collector):
    def __init__(self, state: Callable[[], Iterable[Metric]]) -> None:
        self._state = state

    def collect(self) -> Iterator[Any]:
        yield from self._state()

    def describe(self) -> list[Metric]:
        return []  # or else registering it would ask for the state, which is not there yet
