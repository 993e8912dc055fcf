from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from raymlops.errors import RefusedError
from raymlops.ledger import Ledger, ModelVersion, PackedPredictions
from raymlops.models import Bundle
from raymlops.monitor import ALL, DriftMonitor, DriftPolicy, WindowPolicy, bundles, read_reports
from raymlops.monitor.bundles import Bundles
from raymlops.monitor.concept import watch
from raymlops.monitor.expected import is_off
from raymlops.serve.tap import TapSummary
from raymlops.storage import Store
from tests.endurance import endurance
from tests.monitor.killing import KILLED, feed_and_kill

MONTHS = WindowPolicy(unit="month")


def _time(month: int, day: int = 1) -> datetime:
    return datetime(2013, month, day, tzinfo=UTC)


def test_each_closed_month_is_judged_once(judged) -> None:
    monitor, reports = judged
    assert [report.window.start.month for report in reports] == [4, 5, 6, 7, 8, 9]
    assert monitor.advance("flights", _time(10, 15)) == ()


def test_a_clock_that_is_ahead_closes_no_window(
    service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By that of who watches, today was judged in the morning, and alerts told of half a day."""
    url = f"sqlite:///{tmp_path}/l.db"
    _copy_versions(service.ledger, Ledger(url))
    days = WindowPolicy(unit="day")
    monitor = DriftMonitor(url, service.store.uri, days, DriftPolicy())
    sample = _day(service.summaries[0], "a", 0)
    today = datetime.now(UTC).date()
    monitor.observe(replace(sample, panes=(replace(sample.panes[0], day=today),)))
    for _ in range(2):
        assert monitor.advance("flights", datetime.now(UTC) + timedelta(days=2)) == ()
    assert caplog.text.count("windows of flights are closed by the monitor's clock") == 1
    monitor.observe(replace(sample, sequence=1))
    (report,) = monitor.advance("flights", datetime.now(UTC))
    assert report.window.start == _time(4)


def test_a_repeated_summary_or_label_changes_nothing(judged, service) -> None:
    monitor, _ = judged
    panes = service.ledger.observations.panes("flights", start=date.min, end=date.max)
    assert monitor.observe(service.summaries[0]) == 0
    assert monitor.label(service.labels[:10]) == 0
    again = service.ledger.observations.panes("flights", start=date.min, end=date.max)
    assert [pane.num_rows for pane in again] == [pane.num_rows for pane in panes]


def test_a_call_that_repeats_summaries_counts_those_behind_them(service, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/l.db"
    ledger = Ledger(url)
    _copy_versions(service.ledger, ledger)
    monitor = DriftMonitor(url, service.store.uri, MONTHS, DriftPolicy())
    days = [_day(service.summaries[0], "a", sequence) for sequence in range(4)]
    assert monitor.observe(*days[:2]) == 1
    assert monitor.observe(*(each.to_bytes() for each in days)) == 3
    assert monitor.observe(*days[1:3]) == 2
    panes = ledger.observations.panes("flights", start=date.min, end=date.max)
    counted = sum(pane.num_rows for pane in panes)
    assert counted == sum(pane.num_rows for each in days for pane in each.panes)
    assert ledger.observations.count_predictions("flights") == 4


def test_a_summary_that_can_never_be_stored_is_refused(service, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/l.db"
    monitor = DriftMonitor(url, service.store.uri, MONTHS, DriftPolicy())
    first, second = (_day(service.summaries[0], "a", sequence) for sequence in range(2))
    strange = replace(first.predictions, request_ids=("\ud800",) * len(first.predictions))
    with pytest.raises(RefusedError, match="takes UTF-8, which a text is not"):
        monitor.observe(replace(first, predictions=strange), second)
    with pytest.raises(RefusedError, match="can never be stored"):
        monitor.observe(b"no summary at all")
    assert Ledger(url).observations.count_predictions("flights") == 0
    assert monitor.observe(second) == 1
    assert Ledger(url).observations.count_predictions("flights") == 1


def test_the_heat_of_summer_is_the_farthest_drift_of_july(judged) -> None:
    _, reports = judged
    july = reports[3]
    farthest = july.drifted[0]
    assert (farthest.feature, farthest.test, farthest.version) == ("temp", "ks", "1.0.0")
    assert farthest.effect > 0.9


def test_in_summer_the_first_version_is_worse_than_a_constant(judged) -> None:
    _, reports = judged
    july = {row.metric: row for row in reports[3].performance if row.version == "1.0.0"}
    assert july["log_loss"].value > july["baseline_log_loss"].value
    assert july["log_loss_over_baseline"].low > 0


def test_labels_contradict_what_scores_let_expect_of_the_summer(judged) -> None:
    # The same weather came to mean something else: the scores cannot know, the labels do.
    _, reports = judged
    july = [row for row in reports[3].performance if row.version == "1.0.0"]
    by_name = {row.metric: row for row in july}
    assert by_name["expected_log_loss"].high < by_name["log_loss"].value
    assert by_name["expected_label_rate"].value < by_name["label_rate"].value
    assert is_off(july)


def test_a_canary_is_measured_beside_the_champion_and_both_together(judged) -> None:
    _, reports = judged
    rows = {
        (row.version, row.arm): row.num_rows
        for row in reports[3].performance
        if row.metric == "log_loss"
    }
    champion, challenger = rows["1.0.0", "champion"], rows["1.0.1", "challenger"]
    assert rows[ALL, ALL] == champion + challenger
    assert min(champion, challenger) > 1_000


def test_reports_are_read_back_as_they_were_returned(judged, service) -> None:
    monitor, reports = judged
    read = read_reports(service.ledger, "flights")
    assert [report.drift for report in read] == [report.drift for report in reports]
    assert [r.performance for r in read] == [r.performance for r in reports]
    status = monitor.status("flights")
    assert (status.num_windows, status.latest) == (6, read[-1])
    assert status.num_predictions == len(service.labels)


def test_a_month_without_labels_counts_as_judged(service, tmp_path: Path) -> None:
    monitor = DriftMonitor(f"sqlite:///{tmp_path}/l.db", service.store.uri, MONTHS, DriftPolicy())
    april = next(s for s in service.summaries if s.replica == "champion-4")
    _copy_versions(service.ledger, Ledger(f"sqlite:///{tmp_path}/l.db"))
    monitor.observe(april)
    (report,) = monitor.advance("flights", _time(5))
    measured = [row for row in report.performance if not row.metric.startswith("expected")]
    assert {row.num_rows for row in measured} == {0}
    (hope,) = [row for row in report.performance if row.metric == "expected_log_loss"]
    assert hope.num_rows > 20_000
    assert hope.low < hope.value < hope.high
    assert report.drifted
    assert monitor.advance("flights", _time(5)) == ()


def test_months_that_nobody_asked_in_are_not_judged(service, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/l.db"
    monitor = DriftMonitor(url, service.store.uri, MONTHS, DriftPolicy())
    april = next(s for s in service.summaries if s.replica == "champion-4")
    _copy_versions(service.ledger, Ledger(url))
    strange = [replace(pane, day=date(1971, 2, 3)) for pane in april.panes[:1]]
    monitor.observe(replace(april, panes=(*april.panes, *strange)))
    reports = monitor.advance("flights", _time(6))
    assert [str(each.window) for each in reports] == [
        "1971-02-01 to 1971-03-01",
        "2013-04-01 to 2013-05-01",
    ]
    assert monitor.advance("flights", _time(6)) == ()


def test_windows_of_another_span_go_on_where_the_last_one_ended(service, tmp_path: Path) -> None:
    # Rows were told apart by the start of their window alone, which two spans may share.
    url = f"sqlite:///{tmp_path}/l.db"
    ledger = Ledger(url)
    _copy_versions(service.ledger, ledger)
    days = DriftMonitor(url, service.store.uri, WindowPolicy(unit="day"), DriftPolicy())
    days.observe(next(s for s in service.summaries if s.replica == "champion-4"))
    daily = days.advance("flights", datetime(2013, 4, 4, tzinfo=UTC))
    months = DriftMonitor(url, service.store.uri, MONTHS, DriftPolicy())
    monthly = months.advance("flights", _time(5))
    assert [str(each.window) for each in (*daily, *monthly)] == [
        "2013-04-01 to 2013-04-02",
        "2013-04-02 to 2013-04-03",
        "2013-04-03 to 2013-04-04",
        "2013-04-01 to 2013-05-01",
    ]
    read = read_reports(ledger, "flights")
    assert [each.window for each in read] == [each.window for each in (*daily, *monthly)]
    assert [each.drift for each in read] == [each.drift for each in (*daily, *monthly)]
    assert [len(each.performance) for each in read] == [
        len(each.performance) for each in (*daily, *monthly)
    ]
    assert days.advance("flights", _time(5)) == months.advance("flights", _time(5)) == ()


def test_a_model_nobody_asked_has_no_windows(tmp_path: Path) -> None:
    monitor = DriftMonitor(
        f"sqlite:///{tmp_path}/l.db", str(tmp_path / "store"), MONTHS, DriftPolicy()
    )
    assert monitor.advance("flights", _time(5)) == ()
    assert monitor.status("flights").latest is None


def test_a_window_cut_off_before_it_was_marked_is_judged_again(service, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/l.db"
    ledger = Ledger(url)
    _copy_versions(service.ledger, ledger)
    monitor = DriftMonitor(url, service.store.uri, MONTHS, DriftPolicy())
    monitor.observe(next(s for s in service.summaries if s.replica == "champion-4"))
    (first,) = monitor.advance("flights", _time(5))

    other = DriftMonitor(url + "2", service.store.uri, MONTHS, DriftPolicy())
    half = Ledger(url + "2")
    _copy_versions(service.ledger, half)
    other.observe(next(s for s in service.summaries if s.replica == "champion-4"))
    half.observations.add_drift(first.drift)  # killed here: drift is written, no performance
    (again,) = other.advance("flights", _time(5))
    assert half.observations.drift("flights") == list(again.drift) == list(first.drift)


def test_versions_whose_labels_come_mixed_are_read_once_for_many(
    service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of fifty versions, three quarters of the labels each had a whole bundle read and hashed."""
    url = f"sqlite:///{tmp_path}/l.db"
    _copy_versions(service.ledger, Ledger(url))
    monitor = DriftMonitor(url, service.store.uri, MONTHS, DriftPolicy())
    for summary in service.summaries:
        if summary.panes[0].day.month == 7:
            monitor.observe(summary)
    july = [each for each in service.labels if each.at.month == 7]
    monitor.label(sorted(july, key=lambda each: each.at))  # a quarter is the challenger's
    read = []
    of_version = Bundle.of_version

    def counted(store: Store, version: ModelVersion) -> Bundle:
        read.append(version)
        return of_version(store, version)

    monkeypatch.setattr(bundles, "_MAX_BUNDLES", 1)
    monkeypatch.setattr(Bundle, "of_version", counted)
    monitor.watch("flights")
    assert {str(each.version) for each in read} == {"1.0.0", "1.0.1"}
    assert len(read) <= 2 * 2 * math.ceil(len(july) / 4096)


def test_a_monitor_keeps_no_models(service) -> None:
    """Sixteen of a hundred megabytes each lay in memory, though nobody asks them here."""
    assert Bundles(service.ledger, service.store).of("flights", "1.0.0").model == b""


def test_importing_the_monitor_loads_neither_ray_nor_torch_nor_matplotlib() -> None:
    code = "import sys, json, raymlops.monitor; print(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not {"ray", "torch", "matplotlib"} & set(json.loads(output))


@pytest.mark.parametrize("num_kills", [6, endurance(50)])
def test_kills_lose_nothing_acknowledged_and_count_nothing_twice(
    service, tmp_path: Path, num_kills: int
) -> None:
    url = f"sqlite:///{tmp_path}/l.db"
    ledger = Ledger(url)
    _copy_versions(service.ledger, ledger)
    messages = {
        name: [_day(month, name, sequence) for sequence in range(60)]
        for name, month in zip("abcd", service.summaries, strict=False)
    }
    answered = {
        prediction.request_id
        for sent in messages.values()
        for message in sent
        for prediction in message.predictions
    }
    labels = [row for row in service.labels if row.request_id in answered]
    in_parts = [labels[i::40] for i in range(40)]
    found = feed_and_kill(url, service.store.uri, messages, in_parts, num_kills=num_kills)
    assert found == num_kills

    observations = ledger.observations
    sent = [pane for each in messages.values() for message in each for pane in message.panes]
    panes = observations.panes("flights", start=date.min, end=date.max)
    assert sum(pane.num_rows for pane in panes) == sum(pane.num_rows for pane in sent)
    assert sum(pane.cells.sum() for pane in panes) == sum(pane.cells.sum() for pane in sent)
    assert observations.count_predictions("flights") == len(answered) == 240
    log = observations.joined("flights", after=0, limit=1000)
    assert {outcome.request_id for _, outcome in log} == answered
    # The detectors were shown each label once: as if the whole log had been shown at a time.
    monitor = DriftMonitor(url, service.store.uri, MONTHS, DriftPolicy())
    baseline = partial(monitor._baseline, "flights")
    outcomes = [outcome for _, outcome in log]
    state, alarms = watch(KILLED, "flights", outcomes, {}, baseline)
    assert ledger.watches.state("flights") == (log[-1][0], json.loads(json.dumps(state)))
    raised = [(a.request_id, a.num_labels) for a in ledger.watches.alarms("flights")]
    assert raised == [(alarm.request_id, alarm.num_labels) for alarm in alarms]
    assert raised


def _day(month: TapSummary, replica: str, sequence: int) -> TapSummary:
    """A small summary: one day's counts and one prediction, cycling through the month."""
    return TapSummary(
        model=month.model,
        replica=replica,
        sequence=sequence,
        panes=(month.panes[sequence % len(month.panes)],),
        predictions=PackedPredictions.of([month.predictions[sequence]]),
    )


def _copy_versions(source: Ledger, target: Ledger) -> None:
    for row in source.registry.list("flights"):
        run = source.runs.get(row.run_id)
        copy = target.runs.start(
            kind=run.kind,
            model=run.model,
            params={},
            code=run.code,
            config="",
            environment="",
            inputs={},
        )
        target.registry.register("flights", bundle=row.bundle, signature="{}", run_id=copy.id)
