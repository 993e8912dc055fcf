"""Deploying, where Serve is played by what it does at its end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sklearn.ensemble import RandomForestClassifier

from raymlops.errors import (
    ClusterError,
    ConfigError,
    NotFoundError,
    ReleaseError,
)
from raymlops.ledger import Version
from raymlops.models import Field, Signature
from raymlops.operate import (
    Workspace,
    deploy,
    deploy_pool,
    register_model,
    undeploy,
    undeploy_pool,
)
from raymlops.release import CanaryPolicy, CanaryState
from raymlops.serve import HttpLimits, TrafficTable
from tests.operate.own_models.material import BENIGN, TUMOURS, fitted, saved, unseen
from tests.runs import start_training


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """With two versions of a model, and no actors."""
    for name in ("start_monitor", "start_exporter", "start_sentinel"):
        monkeypatch.setattr(f"raymlops.operate.serving.{name}", lambda *_: None)
    for name in ("check_deployment", "check_pool", "warn_of_doors"):
        monkeypatch.setattr(f"raymlops.serve.{name}", lambda *_: None)
    with Workspace.open(overrides=[f"home={tmp_path / 'home'}"]) as workspace:
        run = start_training(workspace.ledger, "m")
        for _ in range(2):
            workspace.ledger.registry.register("m", bundle="b", signature="{}", run_id=run.id)
        releases = workspace.ledger.releases
        # The one for users tells the board, an actor.
        monkeypatch.setattr(
            "raymlops.serve.publish", lambda t, **_: releases.publish(t.model, t.to_dict())
        )
        yield workspace


@pytest.mark.parametrize("error", [ClusterError, ConfigError, KeyboardInterrupt])
def test_traffic_goes_back_where_replicas_do_not_start(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    # The refused version kept the traffic table, and a replica started later could not load it;
    # after Ctrl-C `status` said who answered, while nobody did.
    def refuse(*_: object, **__: object) -> None:
        published = workspace.ledger.releases.published("m")
        assert published is not None
        assert published[1] == TrafficTable.champion("m", "1.0.1").to_dict()
        raise error("application m does not start")

    monkeypatch.setattr("raymlops.serve.deploy", refuse)
    with pytest.raises(error, match="does not start"):
        deploy(workspace, "m@1.0.1")
    assert workspace.ledger.releases.published("m") is None
    monkeypatch.setattr("raymlops.serve.deploy", lambda *_, **__: None)
    deploy(workspace, "m@1.0.0")
    monkeypatch.setattr("raymlops.serve.deploy", refuse)
    with pytest.raises(error, match="does not start"):
        deploy(workspace, "m@1.0.1")
    published = workspace.ledger.releases.published("m")
    assert published is not None
    assert published[1] == TrafficTable.champion("m", "1.0.0").to_dict()


def release_of(workspace: Workspace, model: str) -> None:
    registry = workspace.ledger.registry
    run_id = registry.get("m", Version(1, 0, 0)).run_id
    for _ in range(2):
        registry.register(model, bundle="b", signature="{}", run_id=run_id)
    registry.move(
        model, "champion", Version(1, 0, 0), who="test", why="the first version", evidence={}
    )
    workspace.ledger.releases.start(
        model=model, champion=Version(1, 0, 0), challenger=Version(1, 0, 1),
        strategy={"canary": CanaryPolicy(shares=(0.25, 0.5)).to_dict()},
        state=CanaryState(step=0, since=datetime(2026, 1, 1, tzinfo=UTC)).to_dict(),
        outcome="canary 25%", who="test", why="it is better",
    )  # fmt: skip


def test_a_release_goes_on_where_its_model_is_deployed_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cluster that ended in the middle of a release, as for an upgrade, took it along: `deploy`
    # told to let `watch` finish it, and `watch` waited in vain for replicas that followed.
    release_of(workspace, "n")
    monkeypatch.setattr("raymlops.serve.deploy", lambda *_, **__: None)
    with pytest.raises(
        ReleaseError, match=r"only the champion, 1\.0\.0, can be deployed meanwhile"
    ):
        deploy(workspace, "n@1.0.1")
    assert workspace.ledger.releases.published("n") is None
    deploy(workspace, "n@champion")
    published = workspace.ledger.releases.published("n")
    assert published is not None
    answering = TrafficTable.from_dict(published[1])
    assert [(arm.name, arm.version, arm.share) for arm in answering.arms] == [
        ("champion", "1.0.0", 0.75),
        ("canary", "1.0.1", 0.25),
    ]


def test_a_pool_that_is_refused_for_one_model_moves_no_other(workspace: Workspace) -> None:
    # Those before the one whose release runs had their traffic moved, and kept it so.
    release_of(workspace, "n")
    with pytest.raises(ReleaseError, match=r"release 1 of n 1\.0\.1 is running"):
        deploy_pool(workspace, "p", ["m@1.0.1", "n@1.0.1"])
    assert workspace.ledger.releases.published("m") is None


def test_a_pool_whose_monitor_does_not_start_moves_no_model(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: Workspace, model: str) -> None:
        if model == "n":
            raise ClusterError("actor raymlops-monitor-n does not start")

    release_of(workspace, "n")
    workspace.ledger.releases.advance(
        1, {}, "rolled_back", outcome="rolled back", who="test", why="it is not"
    )
    monkeypatch.setattr("raymlops.operate.serving.start_monitor", start)
    with pytest.raises(ClusterError, match="monitor-n does not start"):
        deploy_pool(workspace, "p", ["m@1.0.1", "n@1.0.0"])
    assert workspace.ledger.releases.published("m") is None


def test_what_is_undeployed_has_no_traffic_until_it_is_deployed_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its table stayed, and nobody could tell it from a model whose cluster had died.
    monkeypatch.setattr("raymlops.serve.deploy", lambda *_, **__: None)
    monkeypatch.setattr("raymlops.serve.undeploy", lambda _: None)
    monkeypatch.setattr("raymlops.serve.undeploy_pool", lambda _: ("m",))
    releases = workspace.ledger.releases
    for end in (undeploy, undeploy_pool):
        deploy(workspace, "m@1.0.0")
        assert releases.published("m") is not None
        end(workspace, "m")
        assert releases.published("m") is None


@pytest.mark.parametrize(("address", "is_taken"), [("auto", True), ("local", False)])
def test_what_went_with_its_cluster_can_be_undeployed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, address: str, is_taken: bool
) -> None:
    def refuse(model: str) -> None:
        raise NotFoundError(f"'{model}' is not deployed on this cluster")

    monkeypatch.setattr("raymlops.serve.undeploy", refuse)
    workspace.ledger.releases.publish("m", TrafficTable.champion("m", "1.0.0").to_dict())
    overrides = [f"home={workspace.home}", f"cluster.address={address}"]
    with Workspace.open(overrides=overrides) as other:
        if is_taken:
            undeploy(other, "m")
        with pytest.raises(NotFoundError, match="not deployed"):
            undeploy(other, "m")
        assert (other.ledger.releases.published("m") is None) == is_taken


@pytest.mark.parametrize(
    ("overrides", "told"),
    [([], []), (["serve.port=0"], []), (["serve.http.max_headers=32"], [32])],
)
def test_a_door_is_held_against_limits_that_were_set_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, overrides: list[str], told: list[int]
) -> None:
    limits: list[int] = []

    def warn(_: str, of: HttpLimits | None) -> None:
        if of is not None:
            limits.append(of.max_headers)

    monkeypatch.setattr("raymlops.serve.deploy", lambda *_, **__: None)
    monkeypatch.setattr("raymlops.serve.warn_of_doors", warn)
    with Workspace.open(overrides=[f"home={workspace.home}", *overrides]) as other:
        deploy(other, "m@1.0.0")
    assert limits == told


def test_a_hidden_column_that_is_none_is_refused_before_anything_changes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A typo passed, and the column that was meant stood in the log.
    monkeypatch.setattr("raymlops.serve.deploy", lambda *_, **__: None)
    monkeypatch.setattr("raymlops.serve.deploy_pool", lambda *_, **__: "http://a")
    registry = workspace.ledger.registry
    (run_id,) = {version.run_id for version in registry.list("m")}
    for model, column in (("cards", "number"), ("people", "name")):
        inputs = (Field(name=column, datatype="BYTES"), Field(name="age", datatype="FP64"))
        signature = Signature(inputs=inputs, outputs=()).to_json()
        registry.register(model, bundle="b", signature=signature, run_id=run_id)

    def hiding(names: str) -> Workspace:
        log = ["serve.log.inputs=true", f"serve.log.hidden={names}"]
        return Workspace.open(overrides=[f"home={workspace.home}", *log])

    with hiding("[number, nmae]") as other:
        with pytest.raises(ConfigError, match=r"hidden names 'nmae', .* cards; .*: age, number$"):
            deploy(other, "cards@1.0.0")
        with pytest.raises(ConfigError, match=r"names 'nmae', .* cards, people; .*: age, name, nu"):
            deploy_pool(other, "pool", ["cards@1.0.0", "people@1.0.0"])
        assert workspace.ledger.releases.published("cards") is None
    with hiding("[number, name]") as other:
        deploy_pool(other, "pool", ["cards@1.0.0", "people@1.0.0"])
    with hiding("[number]") as other:
        deploy(other, "cards@1.0.0")


def test_slices_by_what_the_table_lacks_are_refused_when_settings_are_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    # `config check` took them, and `deploy` refused them.
    overrides = [f"home={workspace.home}", "monitor.slice_by=[nothere]"]
    table = tmp_path / "m.yaml"
    table.write_text(
        "model: m\ndata: {dataset: d, target: y, event_time: at, "
        "features: [{name: x, kind: number}]}\n"
    )
    with pytest.raises(ConfigError, match=r"slice_by names 'nothere', which is no feature;.*: x"):
        Workspace.open(table, overrides=overrides)


def test_a_model_of_ones_own_is_sliced_by_what_it_is_asked_with(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a table in the settings no feature was taken, though the model has some."""
    sliced: list[tuple[str, ...]] = []
    for name in ("deploy", "deploy_pool"):
        monkeypatch.setattr(
            f"raymlops.serve.{name}", lambda *_, slice_by, **__: sliced.append(slice_by)
        )
    forest = saved(fitted(TUMOURS, RandomForestClassifier), TUMOURS)
    register_model(workspace, "tumours", forest, unseen(TUMOURS), postprocessing=BENIGN)

    def slicing(names: str) -> Workspace:
        return Workspace.open(overrides=[f"home={workspace.home}", f"monitor.slice_by={names}"])

    with slicing("[x3, x0]") as other:
        deploy(other, "tumours@1.0.0")
        deploy_pool(other, "pool", ["tumours@1.0.0"])
    assert sliced == [("x3", "x0")] * 2
    for wrong in ("x30", "score"):
        with (
            slicing(f"[x3, {wrong}]") as other,
            pytest.raises(ConfigError, match=f"names '{wrong}', .* of tumours; there are: x0, x1"),
        ):
            deploy(other, "tumours@1.0.0")
    assert workspace.ledger.releases.published("tumours") is not None
