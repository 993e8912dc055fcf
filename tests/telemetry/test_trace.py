from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace as otel
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from raymlops.telemetry.trace import parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_goes_on_with_a_span_of_our_own() -> None:
    found = parse(f"00-{TRACE}-{SPAN}-01")
    assert found is not None
    assert (found.trace_id, found.parent_id, found.sampled) == (TRACE, SPAN, True)
    assert found.span_id not in (SPAN, "0" * 16)
    assert found.traceparent == f"00-{TRACE}-{found.span_id}-01"


def test_a_later_version_of_the_standard_may_say_more() -> None:
    assert parse(f"01-{TRACE}-{SPAN}-00-more") is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_what_is_malformed_is_no_trace(header: str) -> None:
    assert parse(header) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_an_independent_client_reads_what_we_answer(trace: int, span: int, flags: int) -> None:
    found = parse(f"00-{trace:032x}-{span:016x}-{flags:02x}")
    assert found is not None
    context = TraceContextTextMapPropagator().extract({"traceparent": found.traceparent})
    theirs = otel.get_current_span(context).get_span_context()
    assert (theirs.trace_id, theirs.span_id) == (trace, int(found.span_id, 16))
    assert theirs.trace_flags.sampled == bool(flags & 1)
