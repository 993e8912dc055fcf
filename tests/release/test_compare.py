"""Champion and challenger on the same rows, some of which one of them says nothing about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss

from raymlops.data import Columns, Feature, Profile, TableSchema
from raymlops.data.error_cap import ErrorCap
from raymlops.errors import ReleaseError
from raymlops.models import Postprocessing
from raymlops.release import compare
from raymlops.release.gate import Comparison

START = datetime(2013, 6, 1, tzinfo=UTC)
NUM_ROWS = 240
SCHEMA = TableSchema(
    dataset="storms",
    target="late",
    event_time="at",
    features=(Feature(name="wind", kind="number"),),
)
SAID = Postprocessing(label="late", reads="probability")
NUMBER = Postprocessing(label="late", reads="number")
PROFILE = Profile(
    bins=(), reference=(), label_rate=0.5, loss=0.4, error_cap=ErrorCap(size=3.0, rmse=0.4)
)


@dataclass(frozen=True, kw_only=True)
class Says:
    """As much of a bundle as is asked: the wind, or no number where that lies within `silent`."""

    silent: tuple[int, int] = (0, 0)
    trust: float = 1.0
    postprocessing: Postprocessing = SAID
    nothing: float = np.nan
    profile: Profile = PROFILE

    def predict(self, columns: Columns) -> Columns:
        said = 0.5 + self.trust * (columns["wind"].astype(np.float32) - 0.5)
        said[slice(*self.silent)] = self.nothing
        return {self.postprocessing.score: said}


def rows() -> tuple[pa.Table, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    wind = rng.uniform(0.05, 0.95, NUM_ROWS)
    late = (rng.random(NUM_ROWS) < wind).astype(np.int64)
    at = pa.array([START + timedelta(hours=number) for number in range(NUM_ROWS)])
    return pa.table({"wind": wind, "late": late, "at": at}), wind, late


def compared(champion: Says, challenger: Says) -> Comparison:
    end = START + timedelta(hours=NUM_ROWS)
    return compare(champion, challenger, rows()[0], SCHEMA, start=START, end=end)  # type: ignore[arg-type]


def test_rows_without_a_score_are_left_out_and_counted() -> None:
    """A champion that said NaN once was never replaced: no challenger could be judged beside it."""
    found = compared(Says(silent=(0, 30), trust=0.1), Says(silent=(20, 40)))
    assert (found.num_rows, found.champion_unscored, found.challenger_unscored) == (200, 30, 20)
    _, wind, late = rows()
    assert found.challenger["log_loss"] == pytest.approx(log_loss(late[40:], wind[40:]), rel=1e-5)
    assert found.high < 0


def compared_numbers(
    champion: Says, challenger: Says, late: np.ndarray | None = None
) -> Comparison:
    table, schema = rows()[0], replace(SCHEMA, task="regression")
    if late is not None:
        table = table.set_column(1, "late", pa.array(late))
    end = START + timedelta(hours=NUM_ROWS)
    return compare(champion, challenger, table, schema, start=START, end=end)  # type: ignore[arg-type]


def test_an_infinite_number_is_none() -> None:
    """Nothing could be compared with a champion that said one, and so nothing replaced it."""
    champion = Says(silent=(0, 5), nothing=np.inf, trust=0.1, postprocessing=NUMBER)
    found = compared_numbers(champion, Says(postprocessing=NUMBER))
    assert (found.num_rows, found.champion_unscored, found.challenger_unscored) == (235, 5, 0)
    assert found.high < 0


def test_of_numbers_a_wild_label_counts_for_the_cap_and_an_absurd_answer_is_counted() -> None:
    _, wind, late = rows()
    spoilt = late.astype(float)
    spoilt[7] = 1e9
    champion = Says(trust=0.1, postprocessing=NUMBER)
    found = compared_numbers(champion, Says(postprocessing=NUMBER), spoilt)
    assert (found.error_cap, found.wild_labels) == (3.0, 1)
    squares = np.minimum((wind - spoilt) ** 2, 9.0)
    assert found.challenger["capped_rmse"] == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
    assert found.challenger["rmse"] > 1e7
    assert found.high < 0
    absurd = Says(silent=(0, 2), nothing=1e9, postprocessing=NUMBER)
    assert compared_numbers(champion, absurd).challenger_absurd == 2


def test_without_a_row_that_both_score_nothing_is_compared() -> None:
    with pytest.raises(ReleaseError, match="on none of 240 labelled rows do champion and"):
        compared(Says(silent=(0, 200)), Says(silent=(200, 240)))
