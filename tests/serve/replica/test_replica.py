from __future__ import annotations

import asyncio
import dataclasses
import queue
from pathlib import Path

import numpy as np
import pytest

from raymlops.data import Columns
from raymlops.errors import ClusterError, NotFoundError, StorageError
from raymlops.ledger import Ledger
from raymlops.serve import BatchPolicy, HttpLimits, Replica, ReplicaSpec, TapSummary, TrafficTable
from raymlops.serve.access import ApiKey, Keyring, digest_of
from raymlops.serve.batching import Outputs
from raymlops.serve.engines import BundleRunner
from raymlops.serve.traffic.board import Published, Standing
from raymlops.serve.versions.registered import RegisteredBundles
from raymlops.storage import Copies
from raymlops.telemetry import Snapshot
from raymlops.telemetry.logs import LogPolicy
from tests.serve.conftest import MODEL, World
from tests.serve.replica.application import INFER, body
from tests.serve.replica.surroundings import Gatherer, QuietBoard, Server


def spec(world: World) -> ReplicaSpec:
    return ReplicaSpec(
        model=MODEL,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        batch=BatchPolicy(),
        http=HttpLimits(max_body_bytes=10_000),
    )


def test_a_replica_serves_what_the_ledger_says_and_flushes_at_the_end(world: World) -> None:
    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.1").to_dict())
    board, gatherer, summaries = QuietBoard(), Gatherer(), list[TapSummary]()

    async def sink(*messages: bytes) -> None:
        summaries.extend(map(TapSummary.from_bytes, messages))

    async def test() -> None:
        replica = Replica(spec(world), board=board, sink=sink, outlet=gatherer.put)
        await replica.load()
        async with Server(replica.app) as client:
            for _ in range(5):
                assert (await client.post(INFER, content=body(world))).status_code == 200
            assert (await client.post(INFER, content=b"{")).status_code == 400
            replica.check_health()

    asyncio.run(test())
    assert sum(pane.num_rows for summary in summaries for pane in summary.panes) == 15
    assert {summary.replica for summary in summaries} == {*board.left}
    assert gatherer.newest.source == board.left[0]
    counts = gatherer.counts("raymlops_requests_total")
    assert {labels: count for labels, count in counts.items() if count} == {
        (MODEL, "1.0.1", "champion", "ok"): 5,
        (MODEL, "none", "none", "refused"): 1,
    }
    assert gatherer.counts("raymlops_request_rows_total") == {(MODEL, "1.0.1", "champion"): 15}
    assert gatherer.counts("raymlops_tap_dropped_rows_total") == {(MODEL,): 0}
    parts = [
        gatherer.counts(f"raymlops_request_{part}_seconds")[MODEL, "1.0.1", "champion"]
        for part in ("queue", "batch", "engine", "duration")
    ]
    assert all(part > 0 for part in parts)
    assert sum(parts[:3]) < parts[3]
    # What is unloaded at the end has nothing to tell any more.
    assert gatherer.counts("raymlops_requests_in_flight") == {(MODEL,): 0}


def test_a_replica_starts_again_while_the_store_is_away(world: World, tmp_path: Path) -> None:
    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())
    copies = Copies(folder=tmp_path / "copies", max_bytes=10_000_000)
    kept = dataclasses.replace(spec(world), copies=copies)

    async def test(spec: ReplicaSpec) -> None:
        replica = Replica(spec, board=QuietBoard(), sink=None, outlet=None)
        await replica.load()
        async with Server(replica.app) as client:
            assert (await client.post(INFER, content=body(world))).status_code == 200

    asyncio.run(test(kept))
    # Nothing is behind the URI any more.
    asyncio.run(test(dataclasses.replace(kept, store_uri=str(tmp_path / "away"))))
    with pytest.raises(StorageError):
        asyncio.run(test(dataclasses.replace(spec(world), store_uri=str(tmp_path / "away"))))


def test_a_replica_renews_the_copies_of_what_it_serves(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())
    renewed: queue.Queue[tuple[str, ...]] = queue.Queue()
    monkeypatch.setattr(RegisteredBundles, "renew", lambda _, versions: renewed.put(versions))
    monkeypatch.setattr("raymlops.serve.replica.replica._RENEWED_EVERY_S", 0.001)

    async def test() -> None:
        replica = Replica(spec(world), board=QuietBoard(), sink=None, outlet=None)
        await replica.load()
        async with Server(replica.app):
            assert await asyncio.to_thread(renewed.get, timeout=60.0) == ("1.0.0",)

    asyncio.run(test())


def test_a_key_finds_what_was_deferred_with_it_and_nothing_else(
    world: World, tmp_path: Path
) -> None:
    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())
    ring = Keyring(tmp_path / "keys.json")
    for name in ("ann", "bob"):
        ring.add(ApiKey(name=name, digest=digest_of(name), models=(MODEL,)))

    async def test() -> None:
        keyed = dataclasses.replace(spec(world), keys_file=tmp_path / "keys.json")
        replica = Replica(keyed, board=QuietBoard(), sink=None, outlet=None)
        await replica.load()
        async with Server(replica.app) as client:
            ann, bob = {"x-api-key": "ann"}, {"authorization": "Bearer bob"}
            submit = {"prefer": "respond-async", "x-request-id": "r-1", **ann}
            accepted = await client.post(INFER, content=body(world), headers=submit)
            where = accepted.headers["location"]
            assert (await client.get(where, headers={"authorization": "Bearer ann"})).is_success
            assert (await client.get(where, headers=bob)).status_code == 404
            assert (await client.get(where)).status_code == 401

    asyncio.run(test())


def test_metrics_that_nobody_takes_cost_no_request(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())

    async def away(snapshot: Snapshot) -> None:
        raise ClusterError("nobody is there")

    async def test() -> None:
        replica = Replica(spec(world), board=QuietBoard(), sink=None, outlet=away)
        await replica.load()
        async with Server(replica.app) as client:
            assert (await client.post(INFER, content=body(world))).status_code == 200

    asyncio.run(test())
    assert "nobody takes the metrics of tumours: nobody is there" in caplog.messages


@pytest.mark.parametrize("hidden", [(), ("size",)])
def test_what_a_model_raises_is_logged_without_hidden_values(
    world: World,
    hidden: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """The request log hid a column, and the replica's own quoted it, as the library had."""
    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())

    def fail(_: BundleRunner, columns: Columns) -> Outputs:
        try:
            return {"benign": np.array([float(columns["size"][0])])}
        except ValueError as error:
            raise KeyError(columns["size"][0]) from error

    async def test() -> None:
        log = LogPolicy(enabled=True, inputs=True, hidden=hidden)
        shy = dataclasses.replace(spec(world), log=log, log_folder=str(tmp_path))
        replica = Replica(shy, board=QuietBoard(), sink=None, outlet=None)
        await replica.load()
        monkeypatch.setattr(BundleRunner, "__call__", fail)
        async with Server(replica.app) as client:
            answer = await client.post(INFER, content=body(world))
            assert (answer.status_code, "large" in answer.text) == (500, False)

    asyncio.run(test())
    assert ("large" in caplog.text) == (not hidden)
    assert "KeyError" in caplog.text
    assert "raise KeyError(columns" in caplog.text


def test_a_replica_without_a_table_does_not_start(world: World) -> None:
    async def test() -> None:
        replica = Replica(spec(world), board=QuietBoard(), sink=None, outlet=None)
        with pytest.raises(NotFoundError, match="no traffic table of tumours"):
            await replica.load()

    asyncio.run(test())


def test_a_replica_whose_loop_has_failed_is_unhealthy(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenBoard(QuietBoard):
        async def wait(self, standing: Standing) -> Published | None:
            raise ZeroDivisionError

    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())

    async def test() -> None:
        replica = Replica(spec(world), board=BrokenBoard(), sink=None, outlet=None)
        await replica.load()
        async with Server(replica.app):
            for _ in range(10):
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="the follower of tumours has ended"):
                replica.check_health()

    asyncio.run(test())
    assert "the follower has failed" in caplog.messages
