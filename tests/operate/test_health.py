"""What `raymlops status` tells, with nothing but files to ask."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from raymlops import cluster
from raymlops.cluster import ClusterStatus
from raymlops.cluster.status import Application
from raymlops.ledger import Code, JoinPolicy, Labels, Ledger, Pane, Version
from raymlops.ledger.holders import Holder
from raymlops.monitor import ALL, DriftPolicy, write_report
from raymlops.monitor.metrics import Exporter, ExporterSettings, recorded_series
from raymlops.operate import Workspace, health, open_sentinel, serving_privately, status
from raymlops.operate.exporter import exporter_address
from raymlops.operate.private import forget_killed
from raymlops.serve import Arm, TrafficTable
from raymlops.serve.tap.latency import NUM_BUCKETS
from tests.cli.commands import run
from tests.cluster.test_status import no_http
from tests.monitor.metrics.conftest import AUGUST, MODEL, busy_ledger, decide, drift

__all__ = ["busy_ledger"]  # a fixture


@pytest.fixture
def home(busy_ledger: Ledger, tmp_path: Path) -> Path:
    """The busy ledger lies where a home has its own."""
    return tmp_path


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    with Workspace.open(overrides=[f"home={home}"]) as opened:
        yield opened


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


def test_a_model_without_a_champion_is_a_problem(
    ledger: Ledger, tmp_path: Path, run_id: str
) -> None:
    ledger.registry.register("new", bundle="b" * 64, signature="{}", run_id=run_id)
    # Whoever deployed it by its number is told of that, and not of traffic to None.
    ledger.releases.publish("new", TrafficTable.champion("new", "1.0.0").to_dict())
    with Workspace.open(overrides=[f"home={tmp_path}"]) as workspace:
        found = status(workspace)
    assert found.health == "attention"
    assert found.problems == ("new has versions and no champion: `raymlops promote`",)


def publish(workspace: Workspace, **shares: float) -> None:
    arms = tuple(
        Arm(name=name, version=version, share=share)
        for (name, share), version in zip(shares.items(), ("1.0.0", "1.0.1"), strict=False)
    )
    table = TrafficTable(model=MODEL, arms=arms)
    workspace.ledger.releases.publish(MODEL, table.to_dict())


def test_traffic_that_alias_and_releases_do_not_ask_for_is_a_problem(workspace: Workspace) -> None:
    # A canary that was rolled back went on answering, and everything was said to be well.
    publish(workspace, champion=0.9, canary=0.1)
    found = status(workspace)
    (model,) = found.models
    assert model.traffic == {"1.0.0": 0.9, "1.0.1": 0.1}
    assert (model.health, found.health) == ("attention", "attention")
    assert found.problems == (
        "flights is answered by 1.0.0, 1.0.1, while alias and releases name 1.0.0: "
        "let `raymlops watch` run, or `raymlops deploy flights@champion`",
    )
    workspace.ledger.releases.start(
        model=MODEL, champion=Version(1, 0, 0), challenger=Version(1, 0, 1), strategy={}, state={},
        outcome="canary 10%", who="test", why="it is asked for",
    )  # fmt: skip
    with workspace.coordinator.hold("operator-flights"):
        found = status(workspace)
    assert (found.health, found.models[0].problem) == ("ok", None)
    # An operator that had died left its canary where it was for weeks, and all was said to be well.
    found = status(workspace)
    assert (found.health, found.problems) == (
        "attention",
        ("release 2: 1.0.1 of flights runs, and no `raymlops watch` that takes its next step",),
    )
    workspace.ledger.releases.withdraw(MODEL)
    assert status(workspace).models[0].traffic == {}


@pytest.mark.parametrize(
    ("applications", "health"),
    [
        ((), "attention"),
        (("raymlops-model-other",), "attention"),
        (("raymlops-model-flights",), "ok"),
        (("raymlops-pool-shared",), "ok"),
    ],
)
def test_a_model_that_nobody_serves_any_more_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, applications: tuple[str, ...],
    health: str,
) -> None:  # fmt: skip
    """After a night in which the head died and was started again, all was said to be well."""
    running = tuple(Application(name=n, status="RUNNING", route=None) for n in applications)
    found = ClusterStatus(running=True, applications=running)
    monkeypatch.setattr(cluster, "status", lambda _: found)
    assert status(workspace).models[0].health == "ok"
    publish(workspace, champion=1.0)
    model = status(workspace).models[0]
    assert model.health == health
    if health == "attention":
        assert model.problem == (
            "flights is not served: its cluster ended, or its deploy was killed: "
            "`raymlops deploy flights@champion`, or `raymlops undeploy flights`"
        )


def test_a_private_ray_that_was_killed_serves_nobody(
    workspace: Workspace, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its traffic stays in the ledger, and all was said to be well.
    publish(workspace, champion=1.0)
    assert status(workspace).models[0].health == "ok"  # whoever serves it may have joined a cluster
    serving = (
        "import pathlib, sys, time; from raymlops.operate import serving_privately\n"
        "with serving_privately(pathlib.Path(sys.argv[1]), ['flights', 'other']):\n"
        "    print('serving', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", serving, str(home)], stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"serving\n"
        assert status(workspace).models[0].health == "ok"
        with monkeypatch.context() as patched:  # beside a cluster, which knows nothing of it
            patched.setattr(cluster, "status", lambda _: ClusterStatus(running=True))
            assert status(workspace).models[0].health == "ok"
        killed.kill()
    model = status(workspace).models[0]
    assert model.health == "attention"
    assert model.problem is not None
    assert model.problem.startswith("flights is not served: ")
    with serving_privately(home, [MODEL]):
        assert status(workspace).models[0].health == "ok"
    forget_killed(home, MODEL)
    assert status(workspace).models[0].health == "ok"
    assert list((home / "private").iterdir()) == []


def test_an_exporter_that_has_gone_is_not_shown(workspace: Workspace, home: Path) -> None:
    exporter = Exporter(
        workspace.ledger_url, ExporterSettings(), home, workspace.settings.monitor.drift
    )
    url = f"http://{exporter.address()}/metrics"
    assert status(workspace).monitor.exporter == url
    exporter.close()
    assert status(workspace).monitor.exporter is None


def test_an_exporter_whose_port_another_has_is_not_shown(workspace: Workspace, home: Path) -> None:
    targets = home / "prometheus" / "raymlops.json"
    targets.parent.mkdir()
    with no_http() as address:
        targets.write_text(json.dumps([{"targets": [address], "labels": {}}]))
        assert exporter_address(home) == address
        assert status(workspace).monitor.exporter is None


@pytest.mark.parametrize("name", ["raymlops-model-flights", "raymlops-pool-shared"])
def test_what_is_served_and_not_scraped_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    application = Application(name=name, status="RUNNING", route=None)
    found = ClusterStatus(running=True, applications=(application,))
    monkeypatch.setattr(cluster, "status", lambda _: found)
    assert status(workspace).problems == (
        "models are served and the exporter does not answer: nobody scrapes their metrics",
    )


@pytest.mark.parametrize(
    ("status_of", "minutes", "message", "told"),
    [
        ("DEPLOYING", 2, "", ()),
        ("DEPLOYING", 7, "", ("application other is DEPLOYING for 7 minutes",)),
        (
            "DEPLOY_FAILED",
            7,
            "no module named 'x'\nTraceback",
            ("application other is DEPLOY_FAILED: no module named 'x'",),
        ),
    ],
)
def test_an_application_that_does_not_come_up_is_a_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, status_of: str, minutes: int,
    message: str, told: tuple[str, ...],
) -> None:  # fmt: skip
    """One whose replicas found no room stayed DEPLOYING, and everything was said to be well."""
    application = Application(
        name="other",
        status=status_of,
        route=None,
        deployed_at=time.time() - 60 * minutes,
        message=message,
    )
    found = ClusterStatus(running=True, applications=(application,))
    monkeypatch.setattr(cluster, "status", lambda _: found)
    assert status(workspace).problems == told


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


@pytest.fixture
def run_id(ledger: Ledger) -> str:

    code = Code(commit="c" * 40, dirty_digest=None)
    started = ledger.runs.start(
        kind="train", model="new", params={}, code=code, config="", environment="", inputs={}
    )
    ledger.runs.finish(started.id)
    return started.id


def test_a_ledger_that_nobody_can_write_is_a_problem(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reads go on, so everything looked well while no label and no decision was taken.
    writer = Holder(pid=17, name="ray::Monitor", is_stopped=True)
    monkeypatch.setattr(health, "writer_of", lambda _: writer)
    with Workspace.open(overrides=[f"home={home}"]) as workspace:
        (problem,) = status(workspace).problems
        assert problem.startswith(
            "nothing can be written to the ledger: that is kept by process 17"
        )
        monkeypatch.setattr(health, "writer_of", lambda _: replace(writer, is_stopped=False))
        assert status(workspace).problems == ()


def test_a_full_disk_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # All that can be read was read, and well.
    monkeypatch.setattr(health, "is_full", lambda folder: folder == str(home))
    with Workspace.open(overrides=[f"home={home}"]) as workspace:
        found = status(workspace)
        assert found.problems == (f"nothing can be written: the disk of {home} is full",)
        assert found.health == "attention"
