from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raymlops.ledger import Drift, Ledger, Performance, SlicePerformance
from raymlops.ledger.observations import Observations
from raymlops.monitor import ALL, Window, newest_reports, read_reports, write_report


def _window(start: tuple[int, int], end: tuple[int, int]) -> Window:
    """From (month, day) to (month, day) of 2013."""
    return Window(datetime(2013, *start, tzinfo=UTC), datetime(2013, *end, tzinfo=UTC))


DAYS = (_window((6, 1), (6, 2)), _window((6, 2), (6, 3)))
JUNE = _window((6, 1), (7, 1))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Days were judged until 3 June, and months from then on: June begins with the first day."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        for num_rows, window in enumerate((*DAYS, JUNE), start=1):
            _judge(ledger, window, num_rows)
        yield ledger


def _judge(ledger: Ledger, window: Window, num_rows: int) -> None:
    times = {"window_start": window.start, "window_end": window.end}
    found = {"num_rows": num_rows, "value": 0.5, "low": 0.25, "high": 0.75}
    drift = Drift(
        model="m", version="1.0.0", **times, feature="temp", test="ks",
        num_rows=num_rows, effect=0.5, p_value=0.0, drifted=window == JUNE,
    )  # fmt: skip
    part = SlicePerformance(
        model="m", version="1.0.0", arm="champion", metric="log_loss", feature="dest",
        part=str(window), **times, **found,
    )  # fmt: skip
    whole = Performance(model="m", version=ALL, arm=ALL, metric="log_loss", **times, **found)
    ledger.observations.add_drift([drift])
    ledger.observations.add_slices([part])
    ledger.observations.add_performance([whole])


def test_windows_of_two_units_that_begin_together_are_told_apart(ledger: Ledger) -> None:
    """Each held the rows of both, so that a day's report called for what only June had shown."""
    reports = read_reports(ledger, "m")
    assert [report.window for report in reports] == [*DAYS, JUNE]
    assert [[row.num_rows for row in report.drift] for report in reports] == [[1], [2], [3]]
    assert [[row.num_rows for row in report.performance] for report in reports] == [[1], [2], [3]]
    assert [len(report.drifted) for report in reports] == [0, 0, 1]


def test_reports_are_read_from_the_newest_on_as_far_as_they_are_asked_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To know the newest, or whether two were calm, all windows there ever were were read."""
    assert list(newest_reports(ledger, "m")) == list(reversed(read_reports(ledger, "m")))
    days = newest_reports(ledger, "m", before=JUNE.end)
    assert [report.window for report in days] == [DAYS[1], DAYS[0]]
    assert list(newest_reports(ledger, "other")) == []
    assert [each.window for each in read_reports(ledger, "m", after=DAYS[0].end)] == [DAYS[1], JUNE]

    read = Observations.performance
    rows = []

    def performance(*about: Any, **within: Any) -> list[Performance]:
        rows.extend(found := read(*about, **within))
        return found

    monkeypatch.setattr(Observations, "performance", performance)
    assert next(newest_reports(ledger, "m")).window == JUNE
    assert len(rows) == 1


def test_the_slices_of_a_page_are_those_of_the_last_window(ledger: Ledger, tmp_path: Path) -> None:
    page = write_report(ledger, "m", tmp_path / "m.html").read_text("utf-8")
    assert str(JUNE) in page
    assert str(DAYS[0]) not in page


def test_a_page_reads_no_slices_of_windows_before_the_last(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times over it read those of all windows there were: two years of days took 31 s."""
    august = _window((7, 31), (8, 1))
    _judge(ledger, august, 9)
    read = Observations.slices
    seen: set[datetime] = set()

    def slices(*about: Any, **within: Any) -> list[SlicePerformance]:
        found = read(*about, **within)
        seen.update(row.window_end for row in found)
        return found

    monkeypatch.setattr(Observations, "slices", slices)
    assert str(august) in write_report(ledger, "m", tmp_path / "m.html").read_text("utf-8")
    assert seen == {august.end}


def test_a_report_is_written_before_a_single_label_came(tmp_path: Path) -> None:
    """What the scores let expect was told, but no loss, and the page ended in a StopIteration."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        for metric, value in (("log_loss", math.nan), ("expected_log_loss", 0.5)):
            whole = Performance(
                model="m", version=ALL, arm=ALL, window_start=JUNE.start, window_end=JUNE.end,
                metric=metric, num_rows=10, value=value, low=value, high=value,
            )  # fmt: skip
            ledger.observations.add_performance([whole])
        page = write_report(ledger, "m", tmp_path / "m.html").read_text("utf-8")
    assert "Log loss expected" in page
    assert "Performance</h2>" not in page
