"""When a trouble is over although nobody took the champion's place."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raymlops.ledger import ConceptAlarm, Decision, Drift, Performance
from raymlops.monitor import DriftPolicy, Window, WindowReport
from raymlops.operate.recoveries import Standard, calm_windows, open_causes
from raymlops.operate.triggers import Cause, RetrainPolicy
from raymlops.serve import TrafficTable
from tests.operate.world import World, day, killed, play, point

START = datetime(2013, 1, 1, tzinfo=UTC)
STANDARD = Standard(
    version="1.0.0",
    loss=0.5,
    retrain=RetrainPolicy(max_loss_increase=0.1, min_drifted_share=0.5),
    drift=DriftPolicy(alpha=0.05),
)


def window(week: int) -> Window:
    start = START + timedelta(days=7 * week)
    return Window(start, start + timedelta(days=7))


def drift(week: int, *, effect: float, p_value: float, drifted: bool = False) -> Drift:
    return Drift(
        model="flights",
        version="1.0.0",
        window_start=window(week).start,
        window_end=window(week).end,
        feature="temp",
        test="ks",
        num_rows=27_000,
        effect=effect,
        p_value=p_value,
        drifted=drifted,
    )


def loss(week: int, metric: str, value: float, *, num_rows: int = 27_000) -> Performance:
    return Performance(
        model="flights",
        version="1.0.0",
        arm="champion",
        window_start=window(week).start,
        window_end=window(week).end,
        metric=metric,
        num_rows=num_rows,
        value=value,
        low=value - 0.2,
        high=value + 0.2,
    )


def labelled(week: int, value: float, over_constant: float = -0.1) -> list[Performance]:
    return [loss(week, "log_loss", value), loss(week, "log_loss_over_baseline", over_constant)]


def reports(*weeks: list[Drift] | list[Performance]) -> list[WindowReport]:
    return [
        WindowReport(
            model="flights",
            window=window(number),
            drift=tuple(row for row in rows if isinstance(row, Drift)),
            performance=tuple(row for row in rows if isinstance(row, Performance)),
        )
        for number, rows in enumerate(weeks)
    ]


def found(
    cause: Cause, *weeks: list[Drift] | list[Performance], alarms: tuple[ConceptAlarm, ...] = ()
) -> list[int]:
    """The weeks that say it is over."""
    calm = calm_windows(cause, reversed(reports(*weeks)), alarms, STANDARD)
    return [number for number in range(len(weeks)) if window(number) in calm]


BAD, CALM = [drift(0, effect=0.4, p_value=0.0, drifted=True)], [drift(0, effect=0.01, p_value=0.0)]
NOTHING: list[Drift] = []


def test_drift_is_over_after_two_calm_windows_in_a_row() -> None:
    assert found("drift", BAD, CALM) == []
    assert found("drift", BAD, CALM, BAD, CALM) == []
    assert found("drift", BAD, CALM, BAD, CALM, CALM) == [3, 4]


def test_a_window_that_says_nothing_neither_ends_nor_prolongs() -> None:
    assert found("drift", BAD, CALM, NOTHING) == []
    assert found("drift", BAD, CALM, NOTHING, CALM) == [1, 3]


def test_a_late_look_that_has_little_alpha_left_is_no_all_clear() -> None:
    """The 20th look has alpha / 420: the same shift is seen in few rows no more, and is still
    there."""
    late = [drift(0, effect=0.4, p_value=0.01)]
    assert not STANDARD.drift.exceeded("temp", "ks", effect=0.4, p_value=0.01, look=20)
    assert found("drift", BAD, late, late) == []


def test_a_loss_that_may_be_within_its_limit_is_not_known_to_be() -> None:
    bad, perhaps, good = (labelled(0, value) for value in (0.9, 0.6, 0.54))
    worse_than_a_constant = labelled(0, 0.54, over_constant=0.01)
    assert found("performance", bad, perhaps, perhaps) == []
    assert found("performance", bad, good, worse_than_a_constant) == []
    assert found("performance", bad, good, good) == [1, 2]
    assert found("performance", bad, good, [loss(0, "log_loss", 0.1, num_rows=0)], good) == [1, 3]


def test_without_a_loss_of_the_training_the_constants_is_the_limit() -> None:
    """Of numbers in older bundles nobody kept it, and what was wrong with them was never over."""
    unknown = replace(STANDARD, loss=math.nan)
    weeks = reports(
        *([loss(week, "rmse", 9.0), loss(week, "rmse_over_baseline", over)]
          for week, over in enumerate((0.5, -0.1, -0.1)))
    )  # fmt: skip
    assert calm_windows("performance", weeks[::-1], (), unknown) == (window(1), window(2))
    assert calm_windows("performance", weeks[1::-1], (), unknown) == ()


def test_what_scores_let_expect_gives_way_to_what_labels_say() -> None:
    hopeful = [loss(0, "expected_log_loss", 0.5)]
    assert found("expected", hopeful, hopeful) == [0, 1]
    assert found("expected", hopeful, [loss(0, "expected_log_loss", 0.9)], hopeful) == []
    assert found("expected", hopeful, [*hopeful, *labelled(0, 0.9)]) == []


def test_a_silent_detector_is_believed_where_labels_bear_it_out() -> None:
    """ADWIN takes the errors after its alarm as usual, and never alarms of them again."""
    at = window(0).start + timedelta(days=1)
    alarm = ConceptAlarm(
        model="flights", version="1.0.0", arm="champion", detector="adwin", request_id="r",
        event_time=at, num_labels=900, reference_rate=0.1, recent_rate=0.4, id=1,
    )  # fmt: skip
    good, bad = labelled(0, 0.5), labelled(0, 0.9)
    assert found("concept", good, good, alarms=(alarm,)) == []
    assert found("concept", bad, bad, bad, alarms=(alarm,)) == []
    assert found("concept", good, good, good, alarms=(alarm,)) == [1, 2]


def decided(kind: str, outcome: str, cause: str = "drift") -> Decision:
    return Decision(
        id=1, model="flights", kind=kind, outcome=outcome, who="operator", why="",
        evidence={"cause": cause}, at=START, event_time=START, previous="", digest="",
    )  # fmt: skip


def test_what_is_open_was_triggered_for_and_neither_recovered_nor_replaced() -> None:
    drift, loss = decided("trigger", "retrain"), decided("trigger", "suppressed", "performance")
    assert open_causes([drift, drift, loss]) == ("drift", "performance")
    assert open_causes([drift, loss, decided("recovery", "drift over")]) == ("performance",)
    assert open_causes([replace(drift, evidence={})]) == ("drift",)
    assert open_causes([drift, decided("alias", "challenger -> 1.0.1")]) == ("drift",)
    assert open_causes([drift, decided("alias", "champion -> 1.0.1"), loss]) == ("performance",)


@pytest.mark.parametrize("dies", [False, True])
def test_the_operator_says_so_once(
    world: World, monkeypatch: pytest.MonkeyPatch, *, dies: bool
) -> None:
    """An alert of a bad week went on for 35 days, or until a retraining happened to pass."""
    world.champion = world.challenger
    point(world.workspace, world.champion)
    world.tables.append(TrafficTable.champion("tumours", "1.0.1"))
    target = world.table["target"]
    in_first_week = pa.array(np.arange(len(target)) < 2 * 24 * 7)
    turned = pc.if_else(in_first_week, pc.subtract(1, target), target)
    place = world.table.column_names.index("target")
    world.table = world.table.set_column(place, "target", turned)
    with world.operator() as operator:
        assert play(world, operator, 0, 20) == ["trigger: retrain", "gate: 1.0.1 refused"]
        with monkeypatch.context() as patch:
            if dies:
                patch.setattr(type(world.workspace.ledger.decisions), "consider", killed)
            with pytest.raises(KeyboardInterrupt) if dies else nullcontext():
                assert play(world, operator, 20, 21) == ["recovery: performance over"]
        assert operator.tick(day(21)) == ()
        assert play(world, operator, 21, 42) == []
    (recovery,) = world.workspace.ledger.decisions.list(model="tumours", kind="recovery")
    assert recovery.evidence["left"] == []
    assert recovery.why == (
        "performance of 1.0.1 calls for nothing any more, in 2024-01-08 to 2024-01-15 and "
        "2024-01-15 to 2024-01-22"
    )
