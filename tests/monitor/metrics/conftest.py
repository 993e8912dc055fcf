"""A ledger in which a bit of everything has happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from raymlops.ledger import Code, Drift, Ledger, Performance, Run, Version

MODEL = "flights"
JUNE, JULY = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC)
AUGUST = datetime(2013, 8, 1, tzinfo=UTC)


def drift(feature: str, effect: float, *, start: datetime = JULY, drifted: bool = True) -> Drift:
    return Drift(
        model=MODEL,
        version="1.0.0",
        window_start=start,
        window_end=JULY if start == JUNE else AUGUST,
        feature=feature,
        test="ks",
        num_rows=27_000,
        effect=effect,
        p_value=0.001,
        drifted=drifted,
    )


def log_loss(*, start: datetime = JULY, end: datetime = AUGUST) -> Performance:
    return Performance(
        model=MODEL,
        version=str(Version(1, 0, 0)),
        arm="champion",
        window_start=start,
        window_end=end,
        metric="log_loss",
        num_rows=27_000,
        value=0.7,
        low=0.6,
        high=float("nan"),
    )


def decide(ledger: Ledger, kind: str, outcome: str, why: str = "a reason") -> int:
    decision = ledger.decisions.add(
        model=MODEL, kind=kind, outcome=outcome, who="test", why=why, evidence={}, event_time=JULY
    )
    return decision.id


def make_champion(ledger: Ledger) -> Run:
    """A run, its two versions, and the first of them as champion."""
    code = Code(commit="c" * 40, dirty_digest=None)
    run = ledger.runs.start(
        kind="train", model=MODEL, params={}, code=code, config="", environment="", inputs={}
    )
    for bundle in ("b" * 64, "d" * 64):
        ledger.registry.register(MODEL, bundle=bundle, signature="{}", run_id=run.id)
    first = ledger.registry.list(MODEL)[0].version
    ledger.registry.move(MODEL, "champion", first, who="test", why="first", evidence={})
    return run


def start_release(ledger: Ledger) -> int:
    first, second = (row.version for row in ledger.registry.list(MODEL))
    release = ledger.releases.start(
        model=MODEL, champion=first, challenger=second, strategy={}, state={},
        outcome="canary 5%", who="test", why="it was told to", event_time=JULY,
    )  # fmt: skip
    return release.id


def roll_back(ledger: Ledger, release_id: int) -> None:
    ledger.releases.advance(
        release_id, {}, "rolled_back", outcome="rolled back", who="test", why="it was told to"
    )


def fill(ledger: Ledger) -> None:
    run = make_champion(ledger)
    ledger.runs.log(run.id, {"loss": 0.6, "rows_per_s": 900.0}, step=10)
    ledger.runs.log(run.id, {"loss": 0.5, "rows_per_s": 1000.0}, step=20)
    for outcome in ("retrain", "suppressed", "suppressed"):
        decide(ledger, "trigger", outcome)
    decide(ledger, "gate", "1.0.1 passed")
    decide(ledger, "gate", "1.0.2 refused")
    roll_back(ledger, start_release(ledger))
    ledger.observations.add_drift([drift("temp", 0.2, start=JUNE)])
    ledger.observations.add_drift([drift("temp", 0.6), drift("wind", 0.01, drifted=False)])
    ledger.observations.add_performance([log_loss()])


@pytest.fixture
def busy_ledger(ledger: Ledger) -> Ledger:
    fill(ledger)
    return ledger
