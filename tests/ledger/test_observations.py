from __future__ import annotations

import pickle
import random
import string
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from sqlalchemy import select

from raymlops.errors import NotFoundError, RefusedError
from raymlops.ledger import ConceptAlarm, Drift, Ledger, TapMessage, schema, taps
from tests.ledger.answers import FIRST_DAY, START, labels, pane, prediction


def test_of_replicas_only_those_heard_of_last_are_remembered(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps, "_MAX_REPLICAS", 3)
    observations = ledger.observations
    for replica in ("r1", "r2", "r3"):
        observations.add_tap(replica, 0, [pane()], [])
    observations.add_tap("r1", 1, [pane()], [])
    observations.add_tap("r4", 0, [pane()], [])
    with ledger.database.read() as connection:
        found = connection.execute(select(schema.tap_offsets.c.replica)).scalars().all()
    assert sorted(found) == ["r1", "r3", "r4"]
    assert not observations.add_tap("r1", 1, [pane()], [])


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


ODD_TEXTS = {
    "nul": "a\0b",
    "control": "\x01\x1b[0m\r\n\t",
    "quotes": "'; drop table predictions; --",
    "formats": "%s %(name)s :name {} \\x00",
    "right to left": "\u202eabc\ufeff",
    "beyond the first plane": "\U0001f600" * 64,
    "no character": "\uffff\U0010ffff",
    "blank": " ",
    "long": "".join(random.Random(0).choices(string.ascii_letters, k=9_000)),
}
# PostgreSQL has no NUL in a text, and indexes none of more than 8 kB; SQLite takes both.
REFUSED = {"nul", "long"}


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_an_odd_id_is_kept_as_it_is_or_refused_for_good(ledger: Ledger, name: str) -> None:
    """What a database can never take was told as one that is away, and sent again for ever."""
    observations, odd = ledger.observations, prediction(ODD_TEXTS[name])
    good = TapMessage("r1", 0, [pane()], [prediction("good")])
    bad = TapMessage("r2", 0, [pane()], [odd])
    if ledger.database.backend == "postgresql" and name in REFUSED:
        for _ in range(2):
            with pytest.raises(RefusedError, match="it holds a value that its column cannot"):
                observations.add_taps([good, bad])
        assert observations.days("flights") == []
        bad = TapMessage("r2", 1, [pane()], [prediction("better")])
        odd = bad.predictions[0]
    assert observations.add_taps([good, bad]) == 2
    assert observations.prediction(odd.request_id) == odd
    assert observations.panes("flights", start=FIRST_DAY, end=date.max)[0].num_rows == 4


def test_panes_outside_the_days_are_left_out(ledger: Ledger) -> None:
    ledger.observations.add_tap("r1", 0, [pane(1), pane(2, date(2013, 4, 2))], [])
    found = ledger.observations.panes("flights", start=date(2013, 4, 2), end=date(2013, 4, 3))
    assert [each.num_rows for each in found] == [2]


def test_counts_travel_in_few_bytes_and_arrive_as_they_were() -> None:
    large = replace(pane(), cells=np.arange(50_000) % 1024)
    sent = pickle.dumps(large)
    assert len(sent) < 2.1 * 50_000
    arrived = pickle.loads(sent)
    assert arrived.cells.dtype == np.int64
    assert arrived.cells.tolist() == large.cells.tolist()
    assert pickle.loads(pickle.dumps(replace(pane(), cells=np.empty(0, np.int64)))).cells.size == 0


def test_messages_of_many_replicas_are_merged_as_one(ledger: Ledger) -> None:
    observations = ledger.observations
    messages = [
        TapMessage("r2", 1, [pane(4)], [prediction("d")]),
        TapMessage("r1", 0, [pane(1)], [prediction("a"), prediction("b")]),
        TapMessage("r2", 0, [pane(2)], [prediction("c")]),
        TapMessage("r1", 0, [pane(1)], [prediction("a"), prediction("b")]),
    ]
    assert observations.add_taps(messages) == 3
    assert observations.add_taps([*messages, TapMessage("r1", 1, [pane(8)], [])]) == 1
    (found,) = observations.panes("flights", start=FIRST_DAY, end=date(2013, 4, 2))
    assert (found.num_rows, found.num_failed) == (15, 4)
    assert found.cells.tolist() == [15, 0, 4]
    assert found.latency == (15, 0)
    assert observations.count_predictions("flights") == 4


def test_a_watch_goes_on_from_where_it_was_and_from_nowhere_else(ledger: Ledger) -> None:
    alarm = ConceptAlarm(
        model="flights", version="1.0.0", arm="champion", detector="cusum", request_id="a",
        event_time=START, num_labels=120, reference_rate=0.1, recent_rate=0.3,
    )  # fmt: skip
    watches = ledger.watches
    assert watches.state("flights") == (0, {})
    assert watches.advance("flights", start=0, end=7, state={"x": 0.1}, alarms=[alarm])
    assert not watches.advance("flights", start=0, end=9, state={}, alarms=[alarm])
    assert watches.state("flights") == (7, {"x": 0.1})
    assert watches.advance("flights", start=7, end=8, state={"x": 2}, alarms=[alarm])
    first, second = watches.alarms("flights", version="1.0.0")
    assert first.at is not None
    assert replace(first, id=0, at=None) == alarm
    assert watches.alarms("flights", after=first.id) == [second]
    assert watches.alarms("flights", version="2.0.0") == []


def test_outcomes_are_cut_by_event_time_and_version(ledger: Ledger) -> None:
    observations = ledger.observations
    observations.add_tap("r1", 0, [], [prediction("a", 0), prediction("b", 5)])
    observations.add_labels([labels("a", 0, 1), labels("b", 0, 1)])
    end = START + timedelta(hours=5)
    assert len(observations.outcomes("flights", start=START, end=end)) == 1
    later = end + timedelta(hours=1)
    assert observations.outcomes("flights", start=START, end=later, version="2.0.0") == []


def test_rows_are_counted_as_those_that_are_read(ledger: Ledger) -> None:
    observations = ledger.observations
    days = [FIRST_DAY + timedelta(days=day) for day in range(3)]
    asked = [prediction(f"q{hours}", hours) for hours in (0, 30, 60)]
    panes = [pane(5, day) for day in days] + [replace(pane(7, days[1]), version="1.0.1")]
    observations.add_tap("r", 0, panes, asked)
    observations.add_labels([labels("q0", 0, 1), labels("q30", 1, 1), labels("later", 1)])
    assert observations.count_rows("flights", start=days[1], end=days[2]) == {
        "1.0.0": 5, "1.0.1": 7,
    }  # fmt: skip
    assert observations.count_rows("trains", start=days[0], end=days[2]) == {}
    second, day_after = START + timedelta(hours=30), START + timedelta(hours=54)
    for start, end, num_rows in (
        (START, second, 2),
        (START, day_after, 4),
        (second, second, 0),
    ):
        read = observations.outcomes("flights", start=start, end=end)
        assert observations.count_labelled("flights", start=start, end=end) == num_rows
        assert sum(len(outcome.labels) for outcome in read) == num_rows


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
