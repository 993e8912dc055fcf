from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.errors import ConfigError, NotFoundError
from raymlops.monitor.alerts import Alert, AlertBook, Episode, advance
from raymlops.monitor.alerts.sinks.log import Log
from raymlops.operate import Workspace, open_sentinel
from raymlops.operate.lost_replicas import LostReplicas, serve_statuses
from tests.cli.commands import run
from tests.monitor.alerts.receivers import webhook


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an open episode."""
    with Workspace.open(overrides=[f"home={tmp_path}"]) as workspace:
        sentinel = open_sentinel(workspace)
        sentinel.begin()
        workspace.ledger.decisions.add(
            model="flights",
            kind="gate",
            outcome="1.0.1 refused",
            who="me",
            why="worse",
            evidence={},
        )
        sentinel.look(datetime.now(UTC))
    return tmp_path


def test_alerts_are_listed_for_people_and_for_programs(home: Path) -> None:
    assert "gate 1.0.1 refused: worse" in run("alerts", "list", "--home", str(home))
    found = json.loads(run("alerts", "list", "--home", str(home), "--json"))
    assert [(each["model"], each["told"]) for each in found["open"]] == [("flights", "warning")]
    assert (found["silences"], found["waiting"], found["dead"]) == ([], [], [])


def test_a_silence_is_made_listed_and_ended(home: Path) -> None:
    at_home = ("--home", str(home))
    options = ("--model", "flights", "--for", "2h", "--why", "known")
    made = json.loads(run("alerts", "silence", *options, *at_home, "--json"))
    assert (made["model"], made["name"], made["why"]) == ("flights", "*", "known")
    assert made["id"] in run("alerts", "list", *at_home)
    assert "1" in run("alerts", "silence", "--end", made["id"], "--why", "solved", *at_home)
    assert AlertBook(home).read().silences == ()
    with pytest.raises(NotFoundError, match=f"no silence '{made['id']}', but none"):
        run("alerts", "silence", "--end", made["id"], "--why", "again", *at_home)


def test_a_silence_of_no_alert_is_refused(home: Path) -> None:
    options = ("--why", "x", "--home", str(home))
    names = "performance, expected, drift, concept, gate, release, labels, replica"
    with pytest.raises(NotFoundError, match=f"no alert is called 'drfit'; there are: {names}"):
        run("alerts", "silence", "--name", "drfit", *options)
    for name in ("concept", "re*"):
        run("alerts", "silence", "--name", name, *options)
    assert [each.name for each in AlertBook(home).read().silences] == ["concept", "re*"]


def test_a_length_that_is_none_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="'soon' is no length; write 30s, 90m, 2h or 3d"):
        run("alerts", "silence", "--for", "soon", "--why", "x", "--home", str(home))
    for text in ("0h", "0.0000001s", "4000000d", "9" * 400 + "d"):  # these ended in a traceback
        with pytest.raises(ConfigError, match="a silence lasts a second at least and 36500d at"):
            run("alerts", "silence", "--for", text, "--why", "x", "--home", str(home))
    made = run("alerts", "silence", "--for", "1.5h", "--why", "x", "--home", str(home), "--json")
    start, end = (
        datetime.fromisoformat(json.loads(made)[each]) for each in ("starts_at", "ends_at")
    )
    assert end - start == timedelta(minutes=90)


def test_every_sink_is_tried_and_no_secret_is_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook:
        url = hook.sink.url.reveal()  # type: ignore[attr-defined]
        monkeypatch.setenv("HOOK", url)
        options = ("--set", "alerts.webhook.url=${env:HOOK}", "--home", str(home), "--json")
        assert json.loads(run("alerts", "test", *options)) == {"log": None, "webhook": None}
        assert [told.status for told in hook.told()] == ["firing", "resolved"]
        hook.statuses.append(404)
        refused = CliRunner().invoke(app, ["alerts", "test", *options])
        assert refused.exit_code == 1
        assert "the answer was 404" in refused.output
        assert "in-the-url-88" not in refused.output


def test_a_sink_that_breaks_is_told_like_one_that_refuses(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Log, alert: Alert) -> None:
        raise ValueError(f"no file for {alert.name}")

    monkeypatch.setattr(Log, "send", broken)
    refused = CliRunner().invoke(app, ["alerts", "test", "--home", str(home), "--json"])
    assert refused.exit_code == 1
    assert json.loads(refused.output) == {"log": "ValueError: no file for test"}


def test_a_sink_that_hangs_keeps_no_other_from_its_trial(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answered byte by byte held `alerts test` up for ever."""
    answer = Event()
    monkeypatch.setattr(Log, "send", lambda *_: answer.wait(30))
    monkeypatch.setattr("raymlops.operate.alerts._LONGEST_S", 2.0)
    with webhook() as hook:
        setting = f"alerts.webhook.url={hook.sink.url.reveal()}"  # type: ignore[attr-defined]
        options = ("--set", setting, "--home", str(home), "--json")
        refused = CliRunner().invoke(app, ["alerts", "test", *options])
    answer.set()
    assert json.loads(refused.output) == {"log": "it has not answered in 2 s", "webhook": None}
    assert refused.exit_code == 1


def test_dead_letters_are_sent_again(home: Path) -> None:
    at_home = ("--home", str(home), "--json")
    with webhook() as hook:
        setting = f"alerts.webhook.url={hook.sink.url.reveal()}"  # type: ignore[attr-defined]
        hook.statuses.append(404)
        with Workspace.open(overrides=[f"home={home}", setting]) as workspace:
            workspace.ledger.decisions.add(
                model="trains", kind="gate", outcome="1 refused", who="me", why="x", evidence={}
            )
            open_sentinel(workspace).look(datetime.now(UTC))
        assert len(json.loads(run("alerts", "list", *at_home))["dead"]) == 1
        tried = json.loads(run("alerts", "resend", "--set", setting, *at_home))
        assert tried == {"tried": 1, "left": 0}
        assert [told.model for told in hook.told()] == ["trains"]


def test_a_replica_that_was_replaced_between_two_looks_is_told_once() -> None:
    losses = iter([{"a": 2}, {"a": 2}, {"a": 3, "b": 1}, {"a": 3, "b": 1}, {}, {"a": 1}])
    statuses = {f"raymlops-model-{name}": "RUNNING" for name in "ab"}
    watch = LostReplicas(lambda: statuses, lambda: next(losses))
    looks = [[signal for signal in watch.look() if signal.firing] for _ in range(6)]
    # The first look knows only how many there were; a door that was started again counts anew.
    assert [[signal.model for signal in found] for found in looks] == [
        [], [], ["a", "b"], [], [], ["a"],
    ]  # fmt: skip
    assert looks[2][0].summary == "1 replicas of a died and were replaced"
    assert looks[2][0].severity == "warning"


def test_serves_status_says_which_replicas_are_lost() -> None:
    statuses = {
        "raymlops-model-a": "UNHEALTHY",
        "raymlops-model-b": "RUNNING",
        "raymlops-model-c": "DEPLOYING",
        "raymlops-model-d": "DEPLOY_FAILED",
        "raymlops-pool-a": "UNHEALTHY",
        "raymlops-pool-shared": "RUNNING",
        "somebody-elses": "UNHEALTHY",
    }
    watch = LostReplicas(lambda: statuses, dict)
    found = {signal.model: signal.firing for signal in watch.look()}
    assert found == {"a": True, "b": False, "d": True, "pool a": True, "pool shared": False}


def test_a_replica_of_a_pool_that_was_replaced_is_told_of_its_models() -> None:
    losses = iter([{"a": 1}, {"a": 2, "b": 1}, {"a": 2, "b": 1}])
    times_s = iter([0.0, 2.0, 302.0])
    watch = LostReplicas(
        lambda: {"raymlops-pool-shared": "RUNNING"},
        lambda: next(losses),
        clock=lambda: next(times_s),
    )
    looks = [{signal.model: signal.firing for signal in watch.look()} for _ in range(3)]
    assert looks == [
        {"pool shared": False, "a": False},
        {"pool shared": False, "a": True, "b": True},
        {"pool shared": False, "a": False, "b": False},
    ]


def test_replicas_that_die_again_and_again_are_one_episode() -> None:
    """A replica that died every 20 s had six messages a minute sent to every sink."""
    died = {"a": 0}
    seconds = 0.0
    watch = LostReplicas(
        lambda: {"raymlops-model-a": "RUNNING"}, lambda: dict(died), clock=lambda: seconds
    )
    start = datetime(2013, 7, 1, tzinfo=UTC)
    episodes: tuple[Episode, ...] = ()
    told = []
    while seconds < 1_000:
        if seconds < 600 and seconds % 20 == 10:
            died["a"] += 1
        now = start + timedelta(seconds=seconds)
        episodes, alerts = advance(episodes, watch.look(), now)
        told += [(alert.status, seconds) for alert in alerts]
        seconds += 2
    assert told == [("firing", 10), ("resolved", 890)]


def test_serves_status_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray's enumeration shows its Python name in a text: ApplicationStatus.UNHEALTHY.
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    lost = SimpleNamespace(status=ApplicationStatus.UNHEALTHY)
    found = SimpleNamespace(applications={"raymlops-model-a": lost})
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr(serve, "status", lambda: found)
    (signal,) = LostReplicas(serve_statuses, dict).look()
    assert signal.summary == "replicas of a are lost: Serve says UNHEALTHY"


def test_while_serve_says_nothing_no_loss_is_told_and_none_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error once ended the sentinel's look, and no decision was told either."""
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.schema import ApplicationStatus

    running = SimpleNamespace(status=ApplicationStatus.RUNNING)
    found = SimpleNamespace(applications={"raymlops-model-a": running})
    losses = iter([{"a": 1}, {"a": 2}])
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr(serve, "status", lambda: found)
    watch = LostReplicas(serve_statuses, lambda: next(losses))
    assert [signal.firing for signal in watch.look()] == [False]

    def away() -> NoReturn:
        raise RayActorError

    with monkeypatch.context() as patch:
        patch.setattr(serve, "status", away)
        assert watch.look() == ()
    assert "Serve's controller does not answer" in caplog.text
    assert [signal.firing for signal in watch.look()] == [True]
