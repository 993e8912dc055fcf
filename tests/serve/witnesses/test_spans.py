from __future__ import annotations

import importlib.util
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from raymlops.errors import ConfigError
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.witnesses.spans import Spans, otlp_exporter
from raymlops.telemetry.trace import parse

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
AT = datetime(2013, 7, 1, 12, tzinfo=UTC).timestamp()


def exchange(flags: str = "01", **fields: object) -> Exchange:
    trace = parse(f"00-{TRACE}-{CALLER}-{flags}")
    return Exchange(at=AT, latency_s=0.25, arm="champion", trace=trace, **fields)  # type: ignore[arg-type]


def test_a_request_is_a_span_below_its_callers() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans("flights", exporter)
    good, bad = exchange(status=200), exchange(status=500, error="it broke")
    unwanted = [exchange("00", status=200), Exchange(at=AT, status=200)]
    spans.note(runs_of([good, bad, *unwanted]))
    spans.close()
    first, second = exporter.get_finished_spans()
    assert first.parent is not None
    assert first.context is not None
    assert good.trace is not None
    assert f"{first.context.trace_id:032x}" == TRACE
    assert f"{first.context.span_id:016x}" == good.trace.span_id  # what the answer named
    assert f"{first.parent.span_id:016x}" == CALLER
    assert first.end_time is not None
    assert first.start_time is not None
    assert first.end_time - first.start_time == 250_000_000
    assert first.attributes is not None
    assert first.attributes["http.response.status_code"] == 200
    assert first.attributes["raymlops.arm"] == "champion"
    assert first.status.status_code is StatusCode.UNSET
    assert (second.status.status_code, second.status.description) == (StatusCode.ERROR, "it broke")


def test_without_the_extra_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'raymlops\[otel\]'"):
        otlp_exporter("http://127.0.0.1:4318/v1/traces")
