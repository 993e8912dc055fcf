from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from raymlops.ledger import Ledger, PackedPredictions, Prediction, TapMessage

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


def prediction(number: int, num_rows: int = 1) -> Prediction:
    """A request that came 0.1 s and a microsecond after the one before."""
    time = NOON + number * timedelta(microseconds=100_001)
    return Prediction(
        request_id=f"q-{number}",
        model="flights",
        version="1.0.1" if number % 3 else "1.0.0",
        arm="canary" if number % 3 else "champion",
        scores=np.linspace(0, 1, num_rows, dtype="<f4").tobytes(),
        num_rows=num_rows,
        served_at=time,
        event_time=time - timedelta(days=1),
        replica="r",
        slices=np.arange(2 * num_rows, dtype="<u2").tobytes(),
    )


@pytest.mark.parametrize("number", [1, 5, 100])
def test_what_is_stored_by_column_is_read_back_by_row(ledger: Ledger, number: int) -> None:
    sent = [prediction(index, num_rows=index % 4) for index in range(number)]
    ledger.observations.add_taps([TapMessage("r", 0, [], PackedPredictions.of(sent))])
    assert [ledger.observations.prediction(each.request_id) for each in sent] == sent
    assert ledger.observations.count_predictions("flights") == number


def test_an_answer_that_came_twice_is_kept_once(ledger: Ledger) -> None:
    first, other = prediction(1), replace(prediction(1), arm="champion", version="1.0.0")
    messages = [TapMessage("r", 0, [], [first, other]), TapMessage("s", 0, [], [other])]
    ledger.observations.add_taps(messages)
    assert ledger.observations.prediction("q-1") == first


def test_predictions_of_two_replicas_are_not_packed_together() -> None:
    with pytest.raises(ValueError, match="of flights by r and of flights by s; pack those"):
        PackedPredictions.of([prediction(1), replace(prediction(2), replica="s")])


def test_a_row_has_as_many_scores_as_its_version_knows_classes(ledger: Ledger) -> None:
    three = replace(prediction(0), scores=np.arange(6, dtype="<f4").tobytes(), num_rows=2)
    four = replace(prediction(1), scores=np.arange(4, dtype="<f4").tobytes(), num_rows=1)
    sent = [
        replace(each, slices=np.arange(2 * each.num_rows, dtype="<u2").tobytes())
        for each in (three, four, prediction(2, num_rows=3))
    ]
    sent[2] = replace(sent[2], version="0.9.0")  # which said one probability
    packed = PackedPredictions.of(sent)
    assert [packed.width(number) for number in range(3)] == [3, 4, 1]
    assert list(packed) == sent
    assert packed[1] == sent[1]
    ledger.observations.add_taps([TapMessage("r", 0, [], packed)])
    assert [ledger.observations.prediction(each.request_id) for each in sent] == sent
