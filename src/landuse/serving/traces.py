"""Optional traces for OpenTelemetry: a span a request, in the trace of the caller where it names one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from landuse.errors import UserError


class Span(Protocol):
    """One request."""

    def end(self, status: int) -> None:
        """Note the HTTP status of the answer."""


class Tracer(Protocol):
    """Makes spans."""

    def span(self, route: str, headers: Mapping[bytes, bytes]) -> Any:
        """A context manager that gives the :class:`Span` of one request."""

    def close(self) -> None:
        """Send what has not been sent."""


class NoTracer:
    """Where no collector is named."""

    @contextmanager
    def span(self, route: str, headers: Mapping[bytes, bytes]) -> Iterator["NoTracer"]:
        """Nothing."""
        yield self

    def end(self, status: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class OpenTelemetry:
    """Sends spans to a collector, in batches and in a thread of its own."""

    def __init__(self, address: str, attributes: Mapping[str, str]) -> None:
        """
        Args:
            address: of the collector (OTLP over HTTP), such as http://host:4318.
            attributes: of the service.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create(dict(attributes)))
        exporter = OTLPSpanExporter(endpoint=f"{address.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("landuse.serving")

    @contextmanager
    def span(self, route: str, headers: Mapping[bytes, bytes]) -> Iterator["_Span"]:
        """A span that belongs to the trace of the header ``traceparent``, if there is one."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": headers.get(b"traceparent", b"").decode("latin-1")}
        parent = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span(route, context=parent, kind=SpanKind.SERVER) as span:
            span.set_attribute("http.route", route)
            yield _Span(span)

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


class _Span:
    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)


def make_tracer(address: str | None, attributes: Mapping[str, str]) -> Tracer:
    """A tracer for this collector, or one that does nothing.

    Raises:
        UserError: the libraries for it are not installed.
    """
    if address is None:
        return NoTracer()
    try:
        return OpenTelemetry(address, attributes)
    except ImportError as error:
        raise UserError(f"serve.traces needs OpenTelemetry ({error}): pip install 'landuse[serve]'.") from error
