"""Rows and labels that come for a window which was judged already."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raymlops.data import SCORE, Counts, Profile
from raymlops.ledger import Decision, Drift, Ledger, PackedPredictions
from raymlops.ledger.observations import Observations
from raymlops.monitor import (
    ALL,
    DriftMonitor,
    DriftPolicy,
    FeatureDrift,
    WindowPolicy,
    WindowReport,
    judging,
    late_rows,
    read_reports,
    roll_reference,
    window_of,
    write_report,
)
from raymlops.monitor.judging import Judge
from raymlops.monitor.looks import judged_again
from raymlops.storage import Store
from tests.monitor.conftest import Service
from tests.monitor.test_actor import _copy_versions

APRIL = window_of(datetime(2013, 4, 1, tzinfo=UTC), "month")
MAY = APRIL.end


class Month:
    """A monitor of April's flights, which come day by day."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/l.db"
        self.ledger = Ledger(self.url)
        _copy_versions(service.ledger, self.ledger)
        self.store = service.store
        self.april = next(each for each in service.summaries if each.replica == "champion-4")
        self.all_labels = [each for each in service.labels if each.at < MAY]
        self.sent = 0
        self.monitor = self.started()

    def started(self) -> DriftMonitor:
        months = WindowPolicy(unit="month")
        return DriftMonitor(self.url, self.store.uri, months, DriftPolicy())

    def answered(self, first: int, last: int) -> int:
        """The days from `first` to `last` of April; how many rows those have."""
        days = range(first, last + 1)
        panes = tuple(pane for pane in self.april.panes if pane.day.day in days)
        of_days = [each for each in self.april.predictions if each.event_time.day in days]
        self.monitor.observe(
            type(self.april)(
                model="flights",
                replica="r",
                sequence=self.sent,
                panes=panes,
                predictions=PackedPredictions.of(of_days),
            )
        )
        self.sent += 1
        return sum(pane.num_rows for pane in panes)

    def labelled(self, first: int, last: int) -> None:
        days = range(first, last + 1)
        self.monitor.label([each for each in self.all_labels if each.at.day in days])

    def report(self) -> WindowReport:
        (report,) = read_reports(self.ledger, "flights")
        return report

    def again(self) -> list[Decision]:
        return list(judged_again(self.ledger, "flights"))


@pytest.fixture
def month(service: Service, tmp_path: Path) -> Month:
    return Month(service, tmp_path)


def rows_of(report: WindowReport) -> set[int]:
    return {row.num_rows for row in report.drift}


def labelled_in(report: WindowReport) -> int:
    (row,) = [
        row for row in report.performance if (row.version, row.metric) == (ALL, "scored_share")
    ]
    return row.num_rows


def test_a_window_of_which_much_comes_late_is_judged_again(
    month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that was offline for ten days was counted, drawn and never judged."""
    looks = []
    look = judging.judge_window

    def judge_window(*about: object, num_more: int) -> tuple[Drift, ...]:
        looks.append(num_more)
        return look(*about, num_more=num_more)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(judging, "judge_window", judge_window)
    early = month.answered(1, 20)
    month.labelled(1, 10)
    month.monitor.advance("flights", MAY)
    assert rows_of(month.report()) == {early}
    late = month.answered(21, 30)
    month.labelled(11, 30)
    assert month.monitor.advance("flights", MAY) == ()
    report = month.report()
    assert rows_of(report) == {early + late}
    assert labelled_in(report) == early + late
    assert looks == [0, 1]  # the second look at this reference has less alpha than the first
    (decision,) = month.again()
    assert decision.outcome == "judged again"
    assert decision.evidence["looked_at"] == ["1.0.0"]
    assert decision.evidence["late_rows"] == {"1.0.0": late}
    assert decision.why.startswith(f"{late:,} of {early + late:,} rows of {APRIL}, and the labels")


def test_little_is_counted_and_told(month: Month, tmp_path: Path) -> None:
    early = month.answered(1, 29)
    month.labelled(1, 29)
    month.monitor.advance("flights", MAY)
    late = month.answered(30, 30)
    month.labelled(30, 30)
    month.monitor.advance("flights", MAY)
    assert (rows_of(month.report()), month.again()) == ({early}, [])
    assert late_rows(month.ledger, month.report()) == {"1.0.0": late}
    page = write_report(month.ledger, "flights", tmp_path / "r.html").read_text("utf-8")
    assert "Came after it was judged" in page
    assert f"rows of {APRIL}, and labels of {late:,}" in page


def test_labels_alone_cost_no_look(month: Month) -> None:
    rows = month.answered(1, 30)
    month.monitor.advance("flights", MAY)
    month.labelled(1, 30)
    month.monitor.advance("flights", MAY)
    assert month.again() == []
    assert labelled_in(month.report()) == rows
    found = {row.metric: row for row in month.report().performance if row.version == "1.0.0"}
    assert found["log_loss"].num_rows == rows


def test_what_comes_late_is_looked_for_once_a_day(month: Month) -> None:
    month.answered(1, 10)
    month.monitor.advance("flights", MAY)
    month.answered(11, 20)
    month.monitor.advance("flights", MAY)
    month.answered(21, 30)
    month.monitor.advance("flights", MAY.replace(hour=23))
    assert len(month.again()) == 1
    month.monitor.advance("flights", MAY.replace(day=2))
    assert len(month.again()) == 2
    month.monitor.advance("flights", MAY.replace(day=3))
    assert len(month.again()) == 2


def test_a_monitor_killed_before_it_judged_again_does_so_with_one_look_more(
    month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    month.answered(1, 20)
    month.monitor.advance("flights", MAY)
    month.answered(21, 30)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "judge", killed)
        with pytest.raises(KeyboardInterrupt):
            month.monitor.advance("flights", MAY)
    month.monitor = month.started()
    month.monitor.advance("flights", MAY)
    assert len(month.again()) == 2
    assert late_rows(month.ledger, month.report()) == {}


def test_a_window_held_against_an_earlier_reference_keeps_its_verdict(month: Month) -> None:
    early = month.answered(1, 20)
    month.monitor.advance("flights", MAY)
    version = month.ledger.registry.resolve("flights@1.0.0")
    store = Store(month.store.uri)
    roll_reference(
        month.ledger, store, version, APRIL, min_rows=500, who="ann", why="the new normal"
    )
    month.answered(21, 30)
    month.monitor.advance("flights", MAY)
    assert (rows_of(month.report()), month.again()) == ({early}, [])


def test_a_day_that_was_passed_over_without_traffic_is_judged_when_it_has_some(
    month: Month,
) -> None:
    """Nobody asked on the 4th but a device that was offline: no window held its rows, ever."""
    month.monitor = DriftMonitor(
        month.url, month.store.uri, WindowPolicy(unit="day"), DriftPolicy()
    )
    month.answered(1, 3)
    month.answered(5, 6)
    month.monitor.advance("flights", APRIL.start.replace(day=7))
    rows = month.answered(4, 4)
    month.monitor.advance("flights", APRIL.start.replace(day=7))
    reports = read_reports(month.ledger, "flights")
    assert [report.window.start.day for report in reports] == [1, 2, 3, 4, 5, 6]
    assert rows_of(reports[3]) == {rows}
    months = month.started()  # another unit judges nothing twice
    month.monitor = months
    assert months.advance("flights", APRIL.start.replace(day=8)) == ()
    assert len(read_reports(month.ledger, "flights")) == 6


def test_days_are_counted_once_for_all_windows_that_share_them(
    month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of windows that slide each was counted as a whole: 30 days of labels 90 times, every day."""
    weeks = WindowPolicy(unit="day", span=7)
    month.answered(1, 20)
    month.labelled(1, 20)
    end = APRIL.start.replace(day=21)
    DriftMonitor(month.url, month.store.uri, weeks, DriftPolicy()).advance("flights", end)
    num_days: list[float] = []
    count = Observations.count_labelled

    def count_labelled(*about: Any, start: datetime, end: datetime) -> int:
        num_days.append((end - start) / timedelta(days=1))
        return count(*about, start=start, end=end)

    monkeypatch.setattr(Observations, "count_labelled", count_labelled)
    DriftMonitor(month.url, month.store.uri, weeks, DriftPolicy()).advance("flights", end)
    assert sum(num_days) == 26  # six of March, in which there is nothing, and twenty


def test_what_a_clock_that_was_ahead_had_judged_holds_nothing_up(month: Month) -> None:
    """Until the days came that it had judged, each day was judged in its first hour, as late rows
    are, and no window was told of."""
    days = WindowPolicy(unit="day")
    month.monitor = DriftMonitor(month.url, month.store.uri, days, DriftPolicy(min_rows=1))
    month.answered(1, 2)
    month.answered(20, 20)
    third, fourth, fifth = (APRIL.start.replace(day=number) for number in (3, 4, 5))
    assert len(month.monitor.advance("flights", APRIL.start.replace(day=21))) == 3
    rows = month.answered(3, 3)
    assert month.monitor.advance("flights", third.replace(hour=6)) == ()
    assert month.monitor.advance("flights", third.replace(hour=23)) == ()
    (report,) = month.monitor.advance("flights", fourth)
    assert (report.window.start, rows_of(report)) == (third, {rows})
    month.answered(4, 4)
    assert [each.window.end for each in month.monitor.advance("flights", fifth)] == [fifth]
    assert month.again() == []


@pytest.mark.parametrize("debounce", [1, 3])
def test_a_look_reads_no_more_of_those_before_than_it_is_held_against(
    month: Month, monkeypatch: pytest.MonkeyPatch, debounce: int
) -> None:
    """Every window read what was found in all before it: the 730th took ten times the first."""
    looks: list[tuple[int, int]] = []
    look, read = judging.judge_window, Observations.drift

    def judge_window(
        profile: Profile, counts: Counts, policy: DriftPolicy, earlier: Any, *, num_more: int
    ) -> tuple[FeatureDrift, ...]:
        looks.append((len(earlier), num_more))
        return look(profile, counts, policy, earlier, num_more=num_more)

    def drift(*about: Any, **within: Any) -> list[Drift]:
        found = read(*about, **within)
        assert len({row.window_end for row in found}) < debounce
        return found

    monkeypatch.setattr(judging, "judge_window", judge_window)
    days, lasting = WindowPolicy(unit="day"), DriftPolicy(debounce=debounce)
    monitor = DriftMonitor(month.url, month.store.uri, days, lasting)
    month.answered(1, 6)
    monkeypatch.setattr(Observations, "drift", drift)
    assert len(monitor.advance("flights", APRIL.start.replace(day=7))) == 6
    assert [sum(each) for each in looks] == [0, 1, 2, 3, 4, 5]
    assert [num_read for num_read, _ in looks] == [min(debounce - 1, number) for number in range(6)]


def test_a_window_that_had_too_few_rows_is_judged_once_it_has_enough(
    service: Service, tmp_path: Path
) -> None:
    month = Month(service, tmp_path)
    few = DriftPolicy(min_rows=10_000)
    month.monitor = DriftMonitor(month.url, month.store.uri, WindowPolicy(unit="month"), few)
    month.answered(1, 5)
    month.monitor.advance("flights", MAY)
    assert month.report().drift == ()
    month.answered(6, 30)
    month.monitor.advance("flights", MAY)
    assert {row.feature for row in month.report().drift} > {"temp", SCORE}
