from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import prometheus_client
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from raymlops.telemetry import CATALOGUE, Gathered, RequestMeter, Series, Snapshot, families
from raymlops.telemetry.requests import outcome_of


class Request(NamedTuple):
    version: str
    arm: str
    status: int
    rows: int
    total_ns: int
    engine_ns: int


REQUESTS = st.lists(
    st.builds(
        Request,
        version=st.sampled_from(["1.0.0", "1.0.1", "none"]),
        arm=st.sampled_from(["champion", "canary"]),
        status=st.sampled_from([200, 400, 413, 429, 500, 503]),
        rows=st.integers(0, 5000),
        total_ns=st.integers(0, 2 * 10**10),
        engine_ns=st.integers(-1, 2 * 10**10),
    ),
    max_size=60,
)


def write(series: tuple[Series, ...]) -> str:
    registry = prometheus_client.CollectorRegistry(auto_describe=False)

    class Collector:
        def collect(self) -> object:
            return families(series)

    registry.register(Collector())  # type: ignore[arg-type]
    return prometheus_client.generate_latest(registry).decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@settings(max_examples=25, deadline=None)
@given(REQUESTS, st.integers(1, 16))
def test_counts_are_those_of_an_independent_client(requests: list[Request], capacity: int) -> None:
    registry = prometheus_client.CollectorRegistry()
    bounds = CATALOGUE["raymlops_request_duration_seconds"].bounds
    labels = ("model", "version", "arm")
    total = prometheus_client.Counter(
        "raymlops_requests_total", "x", (*labels, "outcome"), registry=registry
    )
    duration, engine = (
        prometheus_client.Histogram(
            f"raymlops_request_{part}_seconds", "x", labels, buckets=bounds, registry=registry
        )
        for part in ("duration", "engine")
    )
    meter = RequestMeter("m", capacity=capacity)
    for each in requests:
        arm = ("m", each.version, each.arm)
        total.labels(*arm, outcome_of(each.status)).inc()
        if each.status < 400:
            duration.labels(*arm).observe(each.total_ns / 1e9)
            if each.engine_ns >= 0:
                engine.labels(*arm).observe(each.engine_ns / 1e9)
        meter.note(
            each.version,
            each.arm,
            each.status,
            rows=each.rows,
            total_s=each.total_ns / 1e9,
            engine_s=each.engine_ns / 1e9,
        )
    theirs = samples(prometheus_client.generate_latest(registry).decode())
    theirs = {key: value for key, value in theirs.items() if not key[0].endswith("_created")}
    ours = samples(write(meter.series()))
    assert ours.keys() >= theirs.keys()
    for key, value in theirs.items():
        assert np.isclose(ours[key], value, rtol=1e-9), key
    answered = [each.rows for each in requests if each.status < 400]
    assert sum(v for k, v in ours.items() if k[0] == "raymlops_request_rows_total") == sum(answered)


def test_errors_are_told_apart_by_kind() -> None:
    meter = RequestMeter("m")
    for status in (400, 405, 413, 404, 401, 429, 500, 503, 504, 418):
        meter.note("none", "none", status, rows=0, total_s=1e-8)
    kinds = {
        each.labels[3]: each.value
        for each in meter.series()
        if each.metric == "raymlops_request_errors_total"
    }
    assert kinds == {
        "invalid": 3,
        "too_large": 1,
        "not_found": 1,
        "unauthorized": 1,
        "rate_limited": 1,
        "internal": 1,
        "overloaded": 1,
        "timeout": 1,
    }


def test_what_there_is_no_room_for_is_counted_as_other() -> None:
    meter = RequestMeter("m", capacity=7, max_series=4)
    for number in range(1000):
        meter.note(f"1.0.{number}", "champion", (200, 400, 500)[number % 3], rows=1, total_s=1e-8)
    requests = [each for each in meter.series() if each.metric == "raymlops_requests_total"]
    series = [each for each in requests if each.value]
    assert len(series) == 4 + 3
    assert len(requests) == (4 + 1) * 3
    assert sum(each.value for each in series) == 1000
    outcomes = Counter(each.labels[3] for each in series if each.labels[1] == "other")
    assert outcomes == {"ok": 1, "refused": 1, "failed": 1}


def test_an_arm_has_no_failures_from_its_first_request_on() -> None:
    meter = RequestMeter("m")
    meter.note("1.0.0", "canary", 200, rows=1, total_s=1e-3)
    counts = {each.labels: each.value for each in meter.series() if "requests_total" in each.metric}
    canary = ("m", "1.0.0", "canary")
    assert counts == {(*canary, "ok"): 1, (*canary, "refused"): 0, (*canary, "failed"): 0}


def test_versions_that_serve_are_told_apart_after_any_number_of_releases() -> None:
    """After some thirty, a replica counted all that came after as "other", until it was restarted.

    What is let go of is kept by who gathers, so that no count falls.
    """
    meter, gathered = RequestMeter("m", capacity=5, max_series=8, idle_reads=3), Gathered()
    sequence = 0
    for release in range(200):
        for _ in range(3):
            for arm, status in (("champion", 200), ("champion", 400), ("canary", 200)):
                meter.note(f"1.0.{release}", arm, status, rows=2, total_s=0.01)
            gathered.put(Snapshot(source="r", sequence=sequence, series=meter.series()), now_s=0.0)
            sequence += 1
    found = [each for each in meter.series() if each.metric == "raymlops_requests_total"]
    assert "other" not in {each.labels[1] for each in found}
    assert ("m", "1.0.199", "canary", "ok") in {each.labels for each in found}
    assert len({each.labels[1:3] for each in found}) <= 8
    told = {each[:2]: each.value for each in gathered.series(now_s=0.0)}
    assert len(told) > 200
    assert {
        value for (metric, labels), value in told.items()
        if metric == "raymlops_requests_total" and labels[2:] == ("champion", "ok")
    } == {3}  # fmt: skip


def test_a_series_that_comes_back_begins_anew_and_loses_nothing_of_others() -> None:
    meter = RequestMeter("m", capacity=64, max_series=2, idle_reads=2)
    meter.note("1.0.0", "champion", 200, rows=1, total_s=0.01)
    meter.note("1.0.1", "champion", 200, rows=1, total_s=0.01)
    for _ in range(2):
        meter.series()
    meter.note("1.0.1", "champion", 200, rows=4, total_s=0.01)  # in the journal, not yet counted
    meter.note("1.0.2", "champion", 200, rows=1, total_s=0.01)
    meter.note("1.0.0", "champion", 200, rows=1, total_s=0.01)
    rows = {
        each.labels[1]: each.value
        for each in meter.series()
        if each.metric == "raymlops_request_rows_total"
    }
    assert rows == {"1.0.1": 5, "1.0.2": 1, "other": 1}
