from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from raymlops.release.gate import Comparison, GatePolicy, judge

BETTER = Comparison(
    start=datetime(2013, 6, 17, tzinfo=UTC),
    end=datetime(2013, 7, 1, tzinfo=UTC),
    num_rows=12_000,
    champion_unscored=0,
    challenger_unscored=0,
    champion={"log_loss": 0.71, "roc_auc": 0.67},
    challenger={"log_loss": 0.62, "roc_auc": 0.69},
    loss="log_loss",
    difference=-0.09,
    low=-0.15,
    high=-0.03,
)


def test_a_challenger_shown_to_be_better_passes() -> None:
    verdict = judge(GatePolicy(), BETTER)
    assert verdict.passed
    assert verdict.why == (
        "better: log loss 0.6200 against the champion's 0.7100 on 12,000 rows: "
        "difference -0.0900, 95 % interval [-0.1500, -0.0300]"
    )
    assert verdict.evidence["start"] == "2013-06-17T00:00:00+00:00"


def test_of_numbers_a_difference_is_a_share_of_the_champions_error() -> None:
    numbers = replace(
        BETTER,
        champion={"rmse": 13.02, "capped_rmse": 13.02, "mae": 9.0},
        challenger={"rmse": 12.31, "capped_rmse": 12.31, "mae": 8.0},
        loss="rmse",
        difference=-0.0545,
        low=-0.092,
        high=-0.019,
    )
    assert judge(GatePolicy(), numbers).why == (
        "better: RMSE 12.3100 against the champion's 13.0200 on 12,000 rows: "
        "difference -5.5%, 95 % interval [-9.2%, -1.9%]"
    )
    assert judge(GatePolicy(min_gain=0.06), numbers).why.startswith("a smaller gain than 6.0%: ")
    tiny = replace(
        numbers, champion={"capped_rmse": 1.302e-5}, challenger={"capped_rmse": 1.231e-5}
    )
    assert "RMSE 1.23e-05 against the champion's 1.3e-05" in judge(GatePolicy(), tiny).why
    wild = replace(numbers, error_cap=85.4, wild_labels=2, champion_absurd=1, challenger_absurd=1)
    assert judge(GatePolicy(), wild).why.endswith(
        "[-9.2%, -1.9%]; 2 labels are wild, and their errors count as 85.400"
    )


@pytest.mark.parametrize(
    ("comparison", "reason"),
    [
        (replace(BETTER, high=0.001), "not shown to be better"),
        (replace(BETTER, low=math.nan, high=math.nan), "not shown to be better"),
        (
            replace(BETTER, challenger_unscored=2),
            "its score is no number on 2 rows, the champion's",
        ),
        (
            replace(BETTER, challenger_absurd=1),
            "what it says is absurd on 1 rows, of the champion on 0: log loss",
        ),
        (replace(BETTER, num_rows=999), "fewer rows than the 1,000 needed"),
        (replace(BETTER, difference=-0.01), "a smaller gain than 0.0500"),
    ],
)
def test_anything_less_is_refused(comparison: Comparison, reason: str) -> None:
    verdict = judge(GatePolicy(min_gain=0.05), comparison)
    assert not verdict.passed
    assert verdict.why.startswith(reason)


def test_a_holdout_too_short_for_an_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="holdout_days is 3; an interval needs at least 5"):
        GatePolicy(holdout_days=3)


@pytest.mark.parametrize("setting", [{"min_gain": float("nan")}, {"holdout_days": 10**9}])
def test_a_gate_that_can_only_refuse_is_none(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        GatePolicy(**setting)  # type: ignore[arg-type]
