"""OpenTelemetry spans of answered requests, for whoever has the extra `otel`.

A span is made when its request has ended, from what is known of it then: nothing of OpenTelemetry
is on the path of a request, and its batch processor sends spans from a thread of its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from raymlops.errors import ConfigError
from raymlops.serve.exchange import Exchange, Run
from raymlops.telemetry.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_EXTRA = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Sends spans to an OpenTelemetry collector, e.g. http://127.0.0.1:4318/v1/traces.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        installed = importlib.util.find_spec(_EXTRA) is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        raise ConfigError(
            f"serve.traces_to is {endpoint}, but spans need the extra: pip install 'raymlops[otel]'"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint)


class Spans:
    """Exports a span for each exchange whose caller asked for its trace to be kept."""

    def __init__(self, model: str, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Announced(RandomIdGenerator):
            """The span that the answer named already."""

            span_id = 0

            def generate_span_id(self) -> int:
                return self.span_id

        self._model = model
        self._ids = Announced()
        self._provider = TracerProvider(
            resource=Resource({"service.name": f"raymlops/{model}"}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("raymlops.serve")

    def note(self, runs: Sequence[Run]) -> None:
        for exchange in chain.from_iterable([run.exchanges for run in runs]):
            if exchange.trace is not None and exchange.trace.sampled:
                self._export(exchange, exchange.trace)

    def _export(self, exchange: Exchange, trace: Trace) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        started_ns = int(exchange.at * 1e9)
        self._ids.span_id = int(trace.span_id, 16)
        span = self._tracer.start_span(
            f"infer {self._model}",
            context=_parent(trace),
            kind=SpanKind.SERVER,
            start_time=started_ns,
            attributes=self._attributes(exchange),
        )
        if exchange.outcome == "failed":
            span.set_status(Status(StatusCode.ERROR, exchange.error or ""))
        span.end(started_ns + int(exchange.latency_s * 1e9))

    def close(self) -> None:
        """Returns once every span was sent, or given up."""
        self._provider.shutdown()

    def _attributes(self, exchange: Exchange) -> dict[str, str | int]:
        version = "" if exchange.version is None else exchange.version.version
        return {
            "raymlops.model": self._model,
            "raymlops.version": version,
            "raymlops.arm": exchange.arm,
            "raymlops.request_id": exchange.id,
            "raymlops.rows": exchange.num_rows,
            "http.response.status_code": exchange.status,
        }


def _parent(trace: Trace) -> Any:
    """The caller's span, as OpenTelemetry knows it."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    context = SpanContext(
        trace_id=int(trace.trace_id, 16),
        span_id=int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(context))
