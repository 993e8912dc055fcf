"""A reference rolled by hand, on the flights: winter's model, held against spring's traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.errors import DataError
from raymlops.ledger import Decision, Drift, Ledger, ModelVersion
from raymlops.monitor import (
    DriftMonitor,
    DriftPolicy,
    Window,
    WindowPolicy,
    restore_reference,
    roll_reference,
)
from raymlops.monitor.drift import earlier_looks
from raymlops.storage import Store
from tests.monitor.conftest import Service, _answer, _register

SPRING = Window(datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 5, 1, tzinfo=UTC))


@dataclass
class Watched:
    ledger: Ledger
    store: Store
    version: ModelVersion
    monitor: DriftMonitor

    def temperature(self, month: int) -> Drift:
        """What is found in `month`, the next one to be judged."""
        (report,) = self.monitor.advance("flights", datetime(2013, month + 1, 1, tzinfo=UTC))
        return next(row for row in report.drift if row.feature == "temp")


@pytest.fixture
def watched(flights: pd.DataFrame, tmp_path: Path) -> Iterator[Watched]:
    few = flights.iloc[::8]
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        service = Service(ledger, Store(str(tmp_path / "store")))
        model = _register(service, few[few["month"] <= 3], datetime(2013, 4, 1, tzinfo=UTC))
        for month in (4, 5, 6):
            _answer(service, model, "champion", few[few["month"] == month])
        monitor = DriftMonitor(
            ledger.url, service.store.uri, WindowPolicy(unit="month"), DriftPolicy()
        )
        for summary in service.summaries:
            monitor.observe(summary)
        yield Watched(ledger, service.store, model.row, monitor)


def _roll(watched: Watched, window: Window, *, min_rows: int = 500, why: str = "?") -> Decision:
    return roll_reference(
        watched.ledger,
        watched.store,
        watched.version,
        window,
        min_rows=min_rows,
        who="anna",
        why=why,
    )


def test_a_rolled_reference_is_what_later_windows_are_held_against(watched: Watched) -> None:
    ledger, version = watched.ledger, watched.version
    assert watched.temperature(4).effect > 0.6
    decision = _roll(watched, SPRING, why="spring is here")
    assert (decision.kind, decision.outcome, decision.why) == (
        "reference", "rolled", "spring is here"
    )  # fmt: skip
    assert decision.evidence["num_rows"] == pytest.approx(27_000 / 8, rel=0.05)
    against_april = watched.temperature(5).effect
    assert 0.3 < against_april < 0.6
    restore_reference(ledger, version, who="anna", why="it was a mistake")
    assert watched.temperature(6).effect > 0.9
    assert [each.outcome for each in ledger.decisions.list(kind="reference")] == [
        "rolled", "restored"
    ]  # fmt: skip


def test_looks_are_counted_anew_from_the_window_after_the_roll(watched: Watched) -> None:
    watched.temperature(4)
    decision = _roll(watched, SPRING, why="new normal")
    watched.temperature(5)
    rows = watched.ledger.observations.drift("flights")
    end_of_june = datetime(2013, 7, 1, tzinfo=UTC)
    assert len(earlier_looks(rows, "1.0.0", before=end_of_june)) == 2
    assert len(earlier_looks(rows, "1.0.0", before=end_of_june, since=decision.event_time)) == 1


def test_the_verbs_roll_and_restore(watched: Watched, tmp_path: Path) -> None:
    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["drift", *arguments, "--home", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return result.stdout

    days = ("--from", "2013-04-01", "--to", "2013-05-01")
    assert "rows" in invoke("roll", "flights@1.0.0", *days, "--why", "spring is here")
    invoke("restore", "flights@1.0.0", "--why", "it was a mistake", "--json")
    rolled, restored = watched.ledger.decisions.list(kind="reference")
    assert (rolled.why, restored.why) == ("spring is here", "it was a mistake")
    assert rolled.evidence["start"] == "2013-04-01T00:00:00+00:00"


def test_a_time_without_traffic_is_no_reference(watched: Watched) -> None:
    window = Window(datetime(2013, 8, 1, tzinfo=UTC), datetime(2013, 9, 1, tzinfo=UTC))
    with pytest.raises(DataError, match=r"answered nothing in 2013-08-01 to .*2013-06-30"):
        _roll(watched, window)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2013-04-01T12:00+00:00", "2013-05-01T00:00+00:00"),  # all of the 1st was taken
        ("2013-04-01T00:00+00:00", "2013-04-30T23:59+00:00"),  # nothing of the 30th was
        ("2013-04-01T00:00-04:00", "2013-05-01T00:00-04:00"),
        ("2013-05-01T00:00+00:00", "2013-04-01T00:00+00:00"),
    ],
)
def test_parts_of_days_are_no_reference(watched: Watched, start: str, end: str) -> None:
    window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
    with pytest.raises(DataError, match="UTC are no whole days, and traffic is counted by days"):
        _roll(watched, window)


def test_days_of_utc_may_be_told_in_another_zone(watched: Watched) -> None:
    """The date of the zone was taken, a day before: 22:00 in New York is the next day here."""
    told = [datetime.fromisoformat(f"2013-04-{day:02d}T20:00-04:00") for day in (9, 19)]
    utc = [datetime(2013, 4, day, tzinfo=UTC) for day in (10, 20)]
    found, wanted = _roll(watched, Window(*told)), _roll(watched, Window(*utc))
    assert found.evidence == wanted.evidence


def test_a_few_rows_are_no_reference(watched: Watched, tmp_path: Path) -> None:
    """Held against a single row, no window of any size had drifted."""
    with pytest.raises(DataError, match=r"answered 3,\d\d\d rows in .*min_rows is 4,000"):
        _roll(watched, SPRING, min_rows=4_000)
    days = ("--from", "2013-04-01", "--to", "2013-05-01", "--why", "?", "--home", str(tmp_path))
    few = ("--set", "monitor.drift.min_rows=4000")
    refused = CliRunner().invoke(app, ["drift", "roll", "flights@1.0.0", *days, *few])
    assert refused.exit_code == 1
    assert watched.ledger.decisions.list(kind="reference") == []


def test_the_training_data_is_not_restored_twice(watched: Watched) -> None:
    with pytest.raises(DataError, match="held against its training data already"):
        restore_reference(watched.ledger, watched.version, who="anna", why="?")
