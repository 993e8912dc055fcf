from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from raymlops.ledger import Ledger
from raymlops.monitor import ALL, DriftMonitor, DriftPolicy, WindowPolicy, read_reports
from raymlops.serve.tap import TapSummary

MONTHS = WindowPolicy(unit="month")


def _time(month: int, day: int = 1) -> datetime:
    return datetime(2013, month, day, tzinfo=UTC)


def test_each_closed_month_is_judged_once(judged) -> None:
    monitor, reports = judged
    assert [report.window.start.month for report in reports] == [4, 5, 6, 7, 8, 9]
    assert monitor.advance("flights", _time(10, 15)) == ()


def test_a_repeated_summary_or_label_changes_nothing(judged, service) -> None:
    monitor, _ = judged
    panes = service.ledger.observations.panes("flights", start=date.min, end=date.max)
    assert monitor.observe(service.summaries[0]) == 0
    assert monitor.label(service.labels[:10]) == 0
    again = service.ledger.observations.panes("flights", start=date.min, end=date.max)
    assert [pane.num_rows for pane in again] == [pane.num_rows for pane in panes]


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
    assert {row.num_rows for row in report.performance} == {0}
    assert report.drifted
    assert monitor.advance("flights", _time(5)) == ()


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


def test_importing_the_monitor_loads_neither_ray_nor_torch_nor_matplotlib() -> None:
    code = "import sys, json, raymlops.monitor; print(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not {"ray", "torch", "matplotlib"} & set(json.loads(output))


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_ten_kills_lose_no_acknowledged_summary_and_count_none_twice(
    service, tmp_path: Path
) -> None:
    import ray

    url = f"sqlite:///{tmp_path}/l.db"
    Ledger(url).close()
    options = {"num_cpus": 0, "max_restarts": -1}
    monitor = (
        ray.remote(DriftMonitor)
        .options(**options)
        .remote(url, service.store.uri, MONTHS, DriftPolicy())
    )
    summaries = [_day(service.summaries[0], sequence) for sequence in range(100)]
    acknowledged, num_kills, num_lost = -1, 0, 0
    while acknowledged < 99:
        assert num_lost < 1_000, "the monitor does not come back"
        summary = summaries[acknowledged + 1]
        try:
            pid = ray.get(monitor.__ray_call__.remote(lambda _: os.getpid()))
            answer = monitor.observe.remote(summary)
            if summary.sequence == 10 * num_kills + 5:
                if num_kills % 2:
                    ray.get(answer)  # it is counted, but the client dies before it hears so
                os.kill(pid, signal.SIGKILL)
                num_kills += 1
                continue
            acknowledged = ray.get(answer)
        except ray.exceptions.RayActorError:
            num_lost += 1  # not acknowledged, so it is sent again

    assert num_kills == 10
    with Ledger(url) as ledger:
        panes = ledger.observations.panes("flights", start=date.min, end=date.max)
        count = ledger.observations.count_predictions("flights")
    assert sum(pane.num_rows for pane in panes) == sum(s.panes[0].num_rows for s in summaries)
    assert sum(pane.cells.sum() for pane in panes) == sum(s.panes[0].cells.sum() for s in summaries)
    assert count == 100


def _day(month: TapSummary, sequence: int) -> TapSummary:
    """A small summary: one day's counts and one prediction, cycling through the month."""
    return TapSummary(
        model=month.model,
        replica="one",
        sequence=sequence,
        panes=(month.panes[sequence % len(month.panes)],),
        predictions=(month.predictions[sequence],),
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
