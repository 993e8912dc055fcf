"""Prometheus metrics of a replica, handed to Ray a few times a second instead of per request."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

from raymlops.serve.exchange import Exchange

_PERIOD_S = 0.25
_LATENCY_BOUNDS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]


class Meters(Protocol):
    """Where metrics end up."""

    def count_requests(self, number: int, *, version: str, arm: str, outcome: str) -> None: ...

    def observe_latency(self, seconds: float, *, version: str, arm: str) -> None: ...

    def count_dropped_rows(self, number: int) -> None: ...


class Metrics:
    """Collects exchanges, and hands them to `meters` four times a second."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._latencies: list[tuple[str, str, float]] = []

    def note(self, exchange: Exchange) -> None:
        version = "" if exchange.version is None else exchange.version.version
        self._requests[version, exchange.arm, exchange.outcome] += 1
        if exchange.outcome == "ok":
            self._latencies.append((version, exchange.arm, exchange.latency_s))

    async def run(self) -> None:
        """Never returns; cancel it, and `flush` what is left."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            self.flush()

    def flush(self) -> None:
        requests, self._requests = self._requests, Counter()
        latencies, self._latencies = self._latencies, []
        for (version, arm, outcome), number in requests.items():
            self._meters.count_requests(number, version=version, arm=arm, outcome=outcome)
        for version, arm, seconds in latencies:
            self._meters.observe_latency(seconds, version=version, arm=arm)


class RayMeters:
    """Ray's metrics agent exports these; only to be made in a process of a Ray cluster."""

    def __init__(self, model: str) -> None:
        from ray.util.metrics import Counter as RayCounter
        from ray.util.metrics import Histogram

        self._model = model
        self._requests = RayCounter(
            "raymlops_requests_total",
            "Requests to infer, by how they ended.",
            tag_keys=("model", "version", "arm", "outcome"),
        )
        self._latency = Histogram(
            "raymlops_request_latency_seconds",
            "From the first byte of a request to the last of its answer.",
            boundaries=_LATENCY_BOUNDS_S,
            tag_keys=("model", "version", "arm"),
        )
        self._dropped = RayCounter(
            "raymlops_tap_dropped_rows_total",
            "Rows that were answered, but never counted by the monitor.",
            tag_keys=("model",),
        )

    def count_requests(self, number: int, *, version: str, arm: str, outcome: str) -> None:
        tags = {"model": self._model, "version": version, "arm": arm, "outcome": outcome}
        self._requests.inc(number, tags)

    def observe_latency(self, seconds: float, *, version: str, arm: str) -> None:
        self._latency.observe(seconds, {"model": self._model, "version": version, "arm": arm})

    def count_dropped_rows(self, number: int) -> None:
        self._dropped.inc(number, {"model": self._model})
