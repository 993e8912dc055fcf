"""W3C trace context: which larger request a request of ours is part of.

    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
                 version   trace id                   parent's span    sampled

See https://www.w3.org/TR/trace-context/. What comes in goes on under the same trace id, with a
span of our own; what is malformed is no trace, as the standard demands.
"""

from __future__ import annotations

import random
import re
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class Trace:
    """A span of ours: `span_id` is its own, `parent_id` that of who called."""

    trace_id: str
    parent_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """What whoever we call, or answer, is told."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


current: ContextVar[Trace | None] = ContextVar("raymlops_trace", default=None)
"""The trace of the request that is being handled."""


def parse(header: str) -> Trace | None:
    """A span of ours below the one in a `traceparent` header; None where that says nothing."""
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16):
        return None
    if not int(parent_id, 16):
        return None
    return Trace(trace_id, parent_id, new_span_id(), bool(int(flags, 16) & _SAMPLED))


def new_span_id() -> str:
    """Random, and never all zeros; a span is no secret."""
    return f"{random.getrandbits(64) or 1:016x}"
