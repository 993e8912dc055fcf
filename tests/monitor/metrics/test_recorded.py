from __future__ import annotations

from datetime import UTC, datetime

from raymlops.data import SCORE
from raymlops.data.drift import DriftPolicy
from raymlops.ledger import JoinPolicy, Labels, Ledger
from raymlops.ledger.joins import FATES
from raymlops.monitor.metrics import recorded_series
from raymlops.monitor.metrics.recorded import MAX_FEATURES
from tests.monitor.metrics.conftest import (
    AUGUST,
    MODEL,
    drift,
    log_loss,
    make_champion,
    roll_back,
    start_release,
)


def read(ledger: Ledger) -> dict[tuple[str, ...], float]:
    series = recorded_series(ledger, DriftPolicy(thresholds={"ks": 0.02}))
    return {(each.metric, *each.labels): each.value for each in series}


def test_an_empty_ledger_has_no_series(ledger: Ledger) -> None:
    assert read(ledger) == {}


def test_the_ledger_counts_what_was_decided_and_the_newest_window(busy_ledger: Ledger) -> None:
    temp, wind = (MODEL, "1.0.0", "temp", "ks"), (MODEL, "1.0.0", "wind", "ks")
    performance = ("raymlops_performance", MODEL, "1.0.0", "champion", "log_loss")
    assert read(busy_ledger) == {
        ("raymlops_retrains_total", MODEL, "retrain"): 1,
        ("raymlops_retrains_total", MODEL, "suppressed"): 2,
        ("raymlops_gates_total", MODEL, "passed"): 1,
        ("raymlops_gates_total", MODEL, "refused"): 1,
        ("raymlops_releases_total", MODEL, "promoted"): 0,
        ("raymlops_releases_total", MODEL, "rolled_back"): 1,
        ("raymlops_releases_running", MODEL): 0,
        **{("raymlops_labels_total", MODEL, fate): 0 for fate in FATES},
        ("raymlops_version_info", MODEL, "champion", "1.0.0"): 1,
        ("raymlops_version_info", MODEL, "challenger", "1.0.1"): 1,
        ("raymlops_drift_features", MODEL, "1.0.0", "drifted"): 1,
        ("raymlops_drift_features", MODEL, "1.0.0", "steady"): 1,
        ("raymlops_late_rows", MODEL, "1.0.0"): 0,
        ("raymlops_drift_statistic", *temp): 0.6,
        ("raymlops_drift_p_value", *temp): 0.001,
        ("raymlops_drift_threshold", *temp): 0.02,
        ("raymlops_drift_statistic", *wind): 0.01,
        ("raymlops_drift_p_value", *wind): 0.001,
        ("raymlops_drift_threshold", *wind): 0.02,
        (*performance, "value"): 0.7,
        (*performance, "low"): 0.6,
        ("raymlops_runs_running", MODEL, "train"): 1,
        ("raymlops_training_step", MODEL): 20,
        ("raymlops_training_rows_per_second", MODEL): 1000.0,
    }


def test_what_is_counted_begins_at_0_with_the_model(ledger: Ledger) -> None:
    """Prometheus sees no increase in a series that begins at 1: nobody heard of the first."""
    counts = {
        ("raymlops_retrains_total", MODEL, "retrain"): 0,
        ("raymlops_retrains_total", MODEL, "suppressed"): 0,
        ("raymlops_gates_total", MODEL, "passed"): 0,
        ("raymlops_gates_total", MODEL, "refused"): 0,
        ("raymlops_releases_total", MODEL, "promoted"): 0,
        ("raymlops_releases_total", MODEL, "rolled_back"): 0,
        ("raymlops_releases_running", MODEL): 0,
    }
    make_champion(ledger)
    assert counts.items() <= read(ledger).items()
    release = start_release(ledger)
    counts["raymlops_releases_running", MODEL] = 1
    assert counts.items() <= read(ledger).items()
    roll_back(ledger, release)
    counts["raymlops_releases_running", MODEL] = 0
    counts["raymlops_releases_total", MODEL, "rolled_back"] = 1
    assert counts.items() <= read(ledger).items()


def test_labels_by_which_nothing_is_judged_are_counted(ledger: Ledger) -> None:
    """Whoever told them from cron was the only one to hear that they were left out."""
    make_champion(ledger)
    told = [Labels(request_id=name, model=MODEL, labels=b"\x01", at=AUGUST) for name in "abc"]
    ledger.observations.add_labels(told, JoinPolicy(max_waiting=1))
    ledger.observations.add_labels(told[2:])
    found = {key[2]: value for key, value in read(ledger).items() if "labels_total" in key[0]}
    assert found == dict.fromkeys(FATES, 0) | {"waiting": 3, "overflow": 2, "repeated": 1}


def test_of_a_thousand_features_the_farthest_are_shown_and_the_score(ledger: Ledger) -> None:
    many = [drift(f"x{number}", number / 1000) for number in range(1000)]
    ledger.observations.add_drift([*many, drift(SCORE, 0.0)])
    ledger.observations.add_performance([log_loss()])
    shown = {key[3] for key in read(ledger) if key[0] == "raymlops_drift_statistic"}
    assert shown == {SCORE, *(f"x{number}" for number in range(1000 - MAX_FEATURES, 1000))}
    assert read(ledger)["raymlops_drift_features", MODEL, "1.0.0", "drifted"] == 1000


def test_a_window_that_is_not_judged_for_drift_ends_that_of_the_one_before(
    busy_ledger: Ledger,
) -> None:
    """With too few rows from August on, an alert on July's drift went on for ever."""
    september = datetime(2013, 9, 1, tzinfo=UTC)
    busy_ledger.observations.add_performance([log_loss(start=AUGUST, end=september)])
    found = read(busy_ledger)
    assert not [key for key in found if key[0].startswith("raymlops_drift")]
    assert found["raymlops_performance", MODEL, "1.0.0", "champion", "log_loss", "value"] == 0.7
