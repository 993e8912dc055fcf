from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from raymlops.errors import NotFoundError
from raymlops.ledger import Drift, Labels, Ledger, Pane, Prediction

START = datetime(2013, 4, 1, tzinfo=UTC)
FIRST_DAY = date(2013, 4, 1)


def pane(num_rows: int = 2, day: date = FIRST_DAY) -> Pane:
    return Pane(
        model="flights",
        version="1.0.0",
        arm="champion",
        day=day,
        num_rows=num_rows,
        num_failed=1,
        cells=np.array([num_rows, 0, 1]),
        latency=(num_rows, 0),
    )


def prediction(request_id: str, hours: int = 0) -> Prediction:
    return Prediction(
        request_id=request_id,
        model="flights",
        version="1.0.0",
        arm="champion",
        scores=np.array([0.25, 0.75], dtype="<f4").tobytes(),
        num_rows=2,
        served_at=START,
        event_time=START + timedelta(hours=hours),
        replica="r1",
    )


def labels(request_id: str, *values: int) -> Labels:
    return Labels(
        request_id=request_id,
        model="flights",
        labels=np.array(values, dtype=np.int8).tobytes(),
        at=START,
    )


def test_a_repeated_message_counts_once(ledger: Ledger) -> None:
    observations = ledger.observations
    assert observations.add_tap("r1", 0, [pane()], [prediction("a")])
    assert not observations.add_tap("r1", 0, [pane()], [prediction("a")])
    assert observations.add_tap("r1", 1, [pane(3)], [prediction("b")])
    assert observations.add_tap("r2", 0, [pane(5)], [])

    (found,) = observations.panes("flights", start=FIRST_DAY, end=date(2013, 4, 2))
    assert (found.num_rows, found.num_failed) == (10, 3)
    assert found.cells.tolist() == [10, 0, 3]
    assert found.latency == (10, 0)
    assert observations.count_predictions("flights") == 2


def test_panes_outside_the_days_are_left_out(ledger: Ledger) -> None:
    ledger.observations.add_tap("r1", 0, [pane(1), pane(2, date(2013, 4, 2))], [])
    found = ledger.observations.panes("flights", start=date(2013, 4, 2), end=date(2013, 4, 3))
    assert [each.num_rows for each in found] == [2]


def test_labels_join_late_early_twice_or_never(ledger: Ledger) -> None:
    observations = ledger.observations
    observations.add_labels([labels("early", 0, 1)])
    observations.add_tap("r1", 0, [], [prediction(x) for x in ("early", "late", "never", "short")])
    assert observations.add_labels([labels("late", 1, 1), labels("late", 0, 0)]) == 1
    assert observations.add_labels([labels("late", 0, 0), labels("short", 1)]) == 1

    found = observations.outcomes("flights", start=START, end=START + timedelta(hours=1))
    assert [(o.request_id, o.labels.tolist()) for o in found] == [
        ("early", [0, 1]),
        ("late", [1, 1]),
    ]
    assert found[0].scores.tolist() == [0.25, 0.75]


def test_outcomes_are_cut_by_event_time_and_version(ledger: Ledger) -> None:
    observations = ledger.observations
    observations.add_tap("r1", 0, [], [prediction("a", 0), prediction("b", 5)])
    observations.add_labels([labels("a", 0, 1), labels("b", 0, 1)])
    end = START + timedelta(hours=5)
    assert len(observations.outcomes("flights", start=START, end=end)) == 1
    later = end + timedelta(hours=1)
    assert observations.outcomes("flights", start=START, end=later, version="2.0.0") == []


def test_a_window_judged_again_replaces_itself(ledger: Ledger) -> None:
    def drift(effect: float) -> Drift:
        return Drift(
            model="flights",
            version="1.0.0",
            window_start=START,
            window_end=START + timedelta(days=30),
            feature="temp",
            test="ks",
            num_rows=10,
            effect=effect,
            p_value=0.01,
            drifted=True,
        )

    ledger.observations.add_drift([drift(0.1)])
    ledger.observations.add_drift([drift(0.2)])
    assert ledger.observations.drift("flights") == [drift(0.2)]


def test_an_unknown_request_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="no prediction for request 'x'"):
        ledger.observations.prediction("x")
