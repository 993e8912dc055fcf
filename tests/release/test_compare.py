"""Champion and challenger on the same rows, some of which one of them says nothing about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss

from raymlops.data import Columns, Feature, TableSchema
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


@dataclass(frozen=True, kw_only=True)
class Says:
    """As much of a bundle as is asked: the wind, or no number where that lies within `silent`."""

    silent: tuple[int, int] = (0, 0)
    trust: float = 1.0
    postprocessing: Postprocessing = SAID

    def predict(self, columns: Columns) -> Columns:
        said = 0.5 + self.trust * (columns["wind"].astype(np.float32) - 0.5)
        said[slice(*self.silent)] = np.nan
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


def test_without_a_row_that_both_score_nothing_is_compared() -> None:
    with pytest.raises(ReleaseError, match="on none of 240 labelled rows do champion and"):
        compared(Says(silent=(0, 200)), Says(silent=(200, 240)))
