"""What is told of each model: its newest window, labels, alerts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from raymlops.ledger import JoinPolicy, Labels, Ledger, Pane
from raymlops.monitor import ALL, DriftPolicy, write_report
from raymlops.monitor.metrics import recorded_series
from raymlops.operate import Workspace, open_sentinel, status
from raymlops.serve import TrafficTable
from raymlops.serve.tap.latency import NUM_BUCKETS
from tests.cli.commands import run
from tests.monitor.metrics.conftest import AUGUST, MODEL, decide, drift
from tests.runs import start_training


def test_an_empty_home_is_well(tmp_path: Path) -> None:
    with Workspace.open(overrides=[f"home={tmp_path}"]) as workspace:
        found = status(workspace)
    assert (found.health, found.models, found.decisions, found.problems) == ("ok", (), (), ())
    assert not found.cluster.running


def test_models_are_told_with_their_newest_window(workspace: Workspace) -> None:
    found = status(workspace)
    (model,) = found.models
    assert (model.model, model.health, model.champion) == (MODEL, "ok", "1.0.0")
    assert (model.num_versions, model.release, len(model.training)) == (2, None, 1)
    assert (model.num_drifted, model.num_features) == (1, 2)
    assert model.performance == {"log_loss": 0.7}
    assert found.health == "ok"
    assert found.decisions[0].outcome == "1.0.1 rolled back"


def test_a_few_rows_asked_for_by_name_are_not_the_champions_performance(
    workspace: Workspace,
) -> None:
    """Whichever arm was written last was told as the champion's."""
    (of_champion,) = workspace.ledger.observations.performance(MODEL)
    pinned = replace(of_champion, arm="pinned", num_rows=3, value=2.7)
    workspace.ledger.observations.add_performance([pinned])
    assert status(workspace).models[0].performance == {"log_loss": 0.7}


def test_what_only_a_challenger_finds_to_have_drifted_is_not_the_champions(
    workspace: Workspace,
) -> None:
    newer = replace(drift("wind", 0.3), version="1.0.1")
    workspace.ledger.observations.add_drift([newer])
    (model,) = status(workspace).models
    assert (model.num_drifted, model.num_features) == (1, 2)


def test_a_window_too_small_to_look_for_drift_says_so(
    workspace: Workspace, home: Path, tmp_path: Path
) -> None:
    # It said that 0 of 0 features had drifted, or what the window before had shown.
    observations = workspace.ledger.observations
    (loss,) = observations.performance(MODEL)
    september = {"window_start": AUGUST, "window_end": AUGUST + timedelta(days=31)}
    of_all = replace(loss, version=ALL, arm=ALL, num_rows=336, **september)
    observations.add_performance([replace(loss, num_rows=336, **september), of_all])
    pane = Pane(
        model=MODEL, version="1.0.0", arm="champion", day=AUGUST.date(), num_rows=336,
        num_failed=0, cells=np.zeros(1, np.int64), latency=(0,) * NUM_BUCKETS,
    )  # fmt: skip
    observations.add_tap("r", 0, [pane], [])
    (model,) = status(workspace).models
    assert (model.num_drifted, model.num_features, model.num_unjudged) == (0, 0, 336)
    assert "to 2013-09-01: drift not judged in 336 rows (monitor.drift.min_rows), log_loss" in run(
        "status", "--home", str(home)
    )
    page = write_report(workspace.ledger, MODEL, tmp_path / "report.html").read_text("utf-8")
    assert "not judged" in page
    assert "336 rows are fewer than monitor.drift.min_rows" in page


def test_rows_that_came_after_their_window_was_judged_are_told(
    workspace: Workspace, home: Path
) -> None:
    pane = Pane(
        model=MODEL, version="1.0.0", arm="champion", day=AUGUST.date() - timedelta(days=3),
        num_rows=27_400, num_failed=0, cells=np.zeros(1, np.int64), latency=(0,) * NUM_BUCKETS,
    )  # fmt: skip
    workspace.ledger.observations.add_tap("r", 0, [pane], [])
    assert status(workspace).models[0].num_late == 400
    assert "late  400 rows came after this window was judged" in run("status", "--home", str(home))
    late = [
        each
        for each in recorded_series(workspace.ledger, DriftPolicy())
        if each.metric == "raymlops_late_rows"
    ]
    assert [(each.labels, each.value) for each in late] == [((MODEL, "1.0.0"), 400)]


def test_labels_by_which_nothing_is_judged_are_told(workspace: Workspace, home: Path) -> None:
    """They were left out, and only the command that had told them said so, once."""
    assert "labels  " not in run("status", "--home", str(home))
    told = [Labels(request_id=name, model=MODEL, labels=b"\x01", at=AUGUST) for name in "abc"]
    workspace.ledger.observations.add_labels(told, JoinPolicy(max_waiting=1))
    assert status(workspace).models[0].labels == {"waiting": 3, "overflow": 2}
    shown = run("status", "--home", str(home))
    assert "labels  0 joined; nothing is judged by 2 overflow" in shown


def test_an_open_alert_is_the_models_health(workspace: Workspace) -> None:
    sentinel = open_sentinel(workspace)
    sentinel.begin()
    decide(workspace.ledger, "gate", "1.0.3 refused")
    sentinel.look(datetime.now(UTC))
    assert (status(workspace).models[0].health, status(workspace).health) == ("attention",) * 2
    decide(workspace.ledger, "release", "1.0.3 rolled back", why="errors")
    sentinel.look(datetime.now(UTC))
    found = status(workspace)
    assert (found.models[0].health, found.health) == ("broken", "broken")
    assert "critical release: release 1.0.3 rolled back: errors" in found.models[0].alerts


def test_a_model_without_a_champion_is_a_problem(ledger: Ledger, tmp_path: Path) -> None:
    training = start_training(ledger, "new")
    ledger.runs.finish(training.id)
    ledger.registry.register("new", bundle="b" * 64, signature="{}", run_id=training.id)
    # Whoever deployed it by its number is told of that, and not of traffic to None.
    ledger.releases.publish("new", TrafficTable.champion("new", "1.0.0").to_dict())
    with Workspace.open(overrides=[f"home={tmp_path}"]) as workspace:
        found = status(workspace)
    assert found.health == "attention"
    assert found.problems == ("new has versions and no champion: `raymlops promote`",)


@pytest.mark.parametrize(
    ("wild", "wanted"),
    [
        (0.0, "log_loss 0.700, rmse 2.500\n"),
        (0.01, "rmse 2.500, capped_rmse 2.400, error_cap 9.000, wild_labels 0.01"),
    ],
)
def test_people_are_told_what_a_window_came_to(
    workspace: Workspace, home: Path, wild: float, wanted: str
) -> None:
    """They read fourteen figures in a line, of which five say how far off is wild."""
    (loss,) = workspace.ledger.observations.performance(MODEL)
    told = {
        "rmse": 2.5, "baseline_rmse": 7.0, "rmse_over_baseline": -4.5, "capped_rmse": 2.4,
        "error_cap": 9.0, "wild_labels": wild, "absurd_predictions": 0.0, "scored_share": 1.0,
    }  # fmt: skip
    workspace.ledger.observations.add_performance(
        [replace(loss, metric=name, value=each) for name, each in told.items()]
    )
    assert wanted in run("status", "--home", str(home))


def test_people_and_programs_are_told_the_same(home: Path) -> None:
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())
    shown = run("status", "--home", str(home))
    assert "traffic  1.0.0 100%" in shown
    for told in ("health  ok", "flights ok: champion 1.0.0, 2 versions", "1 of 2 features drifted"):
        assert told in shown
    found = json.loads(run("status", "--home", str(home), "--json"))
    assert found["models"][0]["champion"] == "1.0.0"
    assert found["decisions"][0]["kind"] == "release"
    assert found["cluster"]["running"] is False
