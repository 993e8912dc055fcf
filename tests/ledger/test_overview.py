"""What is asked for every few seconds costs the same after years as on the first day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from raymlops.ledger import Drift, Ledger, Performance
from tests.ledger.answers import START

DAY = timedelta(days=1)
METRICS = ("log_loss", "roc_auc", "brier")


def performance(model: str, day: int, metric: str) -> Performance:
    return Performance(
        model=model, version="1.0.0", arm="champion", window_start=START + day * DAY,
        window_end=START + (day + 1) * DAY, metric=metric, num_rows=9, value=0.5, low=0.4, high=0.6,
    )  # fmt: skip


def drift(model: str, day: int) -> Drift:
    return Drift(
        model=model, version="1.0.0", window_start=START + day * DAY,
        window_end=START + (day + 1) * DAY, feature="hour", test="ks", num_rows=9, effect=0.1,
        p_value=0.5, drifted=False,
    )  # fmt: skip


def judge(ledger: Ledger, model: str, days: range) -> None:
    observations = ledger.observations
    observations.add_performance(
        [performance(model, day, name) for day in days for name in METRICS]
    )
    observations.add_drift([drift(model, day) for day in days])


def decide(ledger: Ledger, number: int) -> None:
    for _ in range(number):
        ledger.decisions.add(
            model="flights", kind="trigger", outcome="suppressed", who="w", why="y", evidence={}
        )


def steps(ledger: Ledger, act: Callable[[], Any]) -> int:
    """What SQLite's machine does for it, in its own steps."""
    num = 0

    def count() -> int:
        nonlocal num
        num += 1
        return 0

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(count, 1)

    act()  # statements are compiled, and tables looked up, the first time
    event.listen(ledger.database._engine, "checkout", watch)
    act()
    event.remove(ledger.database._engine, "checkout", watch)
    return num


def test_the_newest_window_of_each_model_is_found(ledger: Ledger) -> None:
    overview = ledger.overview
    assert (overview.newest_performance(), overview.newest_drift()) == ([], [])
    judge(ledger, "flights", range(3))
    judge(ledger, "rain", range(5))
    ledger.observations.add_performance([performance("wind", 7, "log_loss")])
    found = {(row.model, row.window_start, row.metric) for row in overview.newest_performance()}
    assert found == {
        *(("flights", START + 2 * DAY, name) for name in METRICS),
        *(("rain", START + 4 * DAY, name) for name in METRICS),
        ("wind", START + 7 * DAY, "log_loss"),
    }
    drifted = {(row.model, row.window_start) for row in overview.newest_drift()}
    assert drifted == {("flights", START + 2 * DAY), ("rain", START + 4 * DAY)}
    earlier = overview.newest_drift(before=START + 5 * DAY)  # when the last of rain had not ended
    assert {(row.model, row.window_start) for row in earlier} == {
        ("flights", START + 2 * DAY),
        ("rain", START + 3 * DAY),
    }
    assert {row.model for row in overview.newest_performance(before=START + DAY)} == set()


@pytest.mark.parametrize("asked", ["newest_performance", "newest_drift", "last_judged", "late"])
def test_what_is_asked_again_and_again_does_not_cost_more_with_history(
    tmp_path: Path, asked: str
) -> None:
    """Each scrape, look and `status` went through all windows and all decisions there were."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        act: Callable[[], Any] = {
            "newest_performance": ledger.overview.newest_performance,
            "newest_drift": ledger.overview.newest_drift,
            "last_judged": lambda: ledger.observations.last_judged("flights"),
            "late": lambda: ledger.decisions.list(model="flights", kind="late"),
        }[asked]
        costs = []
        for days in (range(2), range(2, 200)):
            judge(ledger, "flights", days)
            decide(ledger, len(days))
            costs.append(steps(ledger, act))
        assert costs[1] <= costs[0] + 2
