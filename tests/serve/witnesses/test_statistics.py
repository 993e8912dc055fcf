from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.protocols.open_inference import describe
from raymlops.serve.versions.loaded import LoadedVersion
from raymlops.serve.witnesses.statistics import Statistics

VERSION = cast("LoadedVersion", SimpleNamespace(version="1.0.0"))


def test_what_is_refused_is_not_a_failure() -> None:
    """A client that sent nonsense made its model look ill."""
    statistics = Statistics()
    latencies_s = {200: 1.0, 400: 2.0, 413: 4.0, 503: 8.0}
    statistics.note(
        runs_of(
            Exchange(version=VERSION, status=status, num_rows=3, latency_s=latency_s)
            for status, latency_s in latencies_s.items()
        )
    )
    tally = statistics.of["1.0.0"]
    assert (tally.num_ok, tally.num_refused, tally.num_failed) == (1, 2, 1)
    assert (tally.ok_s, tally.refused_s, tally.failed_s, tally.spent_s) == (1.0, 6.0, 8.0, 15.0)
    assert tally.num_rows == 3


def test_the_protocol_counts_what_was_refused_as_failed() -> None:
    statistics = Statistics()
    statistics.note(
        runs_of(Exchange(version=VERSION, status=each, latency_s=0.5) for each in (400, 500))
    )
    (told,) = describe.statistics("m", statistics.of)["model_stats"]
    assert told["inference_stats"] == {
        "success": {"count": 0, "ns": 0},
        "fail": {"count": 2, "ns": 1_000_000_000},
    }
