"""Real processes on one node: rounds, rows by key, snapshots, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from raymlops.errors import TrainingError
from raymlops.train.server import (
    Adam,
    Asynchronous,
    Client,
    ServerSettings,
    Sgd,
    Snapshot,
    Synchronous,
)
from raymlops.train.server.actor import _yield_to_who_rings
from tests.train.server.fleet import Fleet, fleet, kill_in_turn, wait_until
from tests.train.server.pushes import BIAS, IMAGES, WEIGHT, gradient_of


def test_a_shard_serves_also_where_it_cannot_be_batch_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbid)
    with caplog.at_level("INFO"):
        _yield_to_who_rings()
    assert "a shard runs as other processes do: [Errno 1]" in caplog.text


def test_a_round_is_one_step_on_the_mean() -> None:
    parameters = {"weight": WEIGHT, "bias": BIAS}
    with fleet(parameters, Sgd(learning_rate=0.1), Synchronous(workers=2)) as served:
        clients = [served.client(0), served.client(1)]
        assert np.array_equal(clients[0].pull()["weight"], WEIGHT)
        clients[1].push({"weight": 3 * np.ones_like(WEIGHT), "bias": np.zeros_like(BIAS)})
        clients[0].push({"weight": np.ones_like(WEIGHT), "bias": np.ones_like(BIAS)})
        for client in clients:
            pulled = client.pull()
            np.testing.assert_allclose(pulled["weight"], WEIGHT - 0.2, rtol=0, atol=1e-7)
            np.testing.assert_allclose(pulled["bias"], BIAS - 0.05, rtol=0, atol=1e-7)
            assert client.traffic.pushed_bytes == 4 * (2560 + 10)
            with pytest.raises(ValueError, match="read-only"):
                pulled["bias"][0] = 1


def test_pushing_the_lent_buffers_copies_nothing_and_counts_the_same() -> None:
    parameters = {"weight": WEIGHT, "bias": BIAS}
    with fleet(parameters, Sgd(learning_rate=1.0), Synchronous(workers=1)) as served:
        client = served.client(0)
        for _ in range(5):
            gradients = client.buffers()
            gradients["weight"][...] = 1
            gradients["bias"][...] = 2
            client.push(gradients)
        pulled = client.pull()
        np.testing.assert_allclose(pulled["weight"], WEIGHT - 5, rtol=0, atol=1e-6)
        np.testing.assert_allclose(pulled["bias"], BIAS - 10, rtol=0, atol=1e-6)


def rows_of(worker: int, sequence: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys of a table of 11 rows, one of them twice, and their gradients."""
    keys = np.array([worker, sequence, worker, sequence + 5]) % 11
    return keys, IMAGES[sequence : sequence + 4, 20:24]


def push_rounds(client: Client, worker: int, count: int) -> None:
    for sequence in range(1, count + 1):
        client.push(gradient_of(worker, sequence))
        client.push_rows("carrier", *rows_of(worker, sequence))
        client.pull()


CLIPPED = {"weight": WEIGHT, "bias": BIAS, "carrier": IMAGES[:11, :4].copy()}


def clipped_by_torch(count: int, clip_norm: float) -> tuple[dict[str, np.ndarray], float]:
    """What rounds of two workers make of the parameters in one process, and the last norm."""
    tensors = {name: torch.from_numpy(v.copy()).requires_grad_() for name, v in CLIPPED.items()}
    steps = torch.optim.SGD(tensors.values(), lr=0.1)
    for sequence in range(1, count + 1):
        for tensor in tensors.values():
            tensor.grad = torch.zeros_like(tensor)
        for worker in (0, 1):
            for name, gradient in gradient_of(worker, sequence).items():
                tensors[name].grad += torch.from_numpy(gradient) / 2
            keys, rows = map(torch.from_numpy, rows_of(worker, sequence))
            tensors["carrier"].grad.index_add_(0, keys, rows / 2)
        norm = torch.nn.utils.clip_grad_norm_(tensors.values(), clip_norm)
        steps.step()
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}, float(norm)


def snapshot_of(served: Fleet) -> Snapshot:
    """Taken by a process that was there before."""
    numbers = [
        [served.look(shard).blocks[block].copy().numbers for shard in (0, 1)] for block in (0, 1)
    ]
    dense = np.concatenate([kinds[0] for kinds in numbers[0]])
    table = np.empty_like(CLIPPED["carrier"])
    for shard in (0, 1):
        table[shard::2] = numbers[1][shard][0]
    offsets = served.spec.partition.offsets
    found = {
        name: dense[at : at + CLIPPED[name].size].reshape(CLIPPED[name].shape)
        for name, at in offsets.items()
    }
    return Snapshot.of({**found, "carrier": table})


@pytest.mark.parametrize("with_kills", [False, True])
def test_the_norm_of_a_round_is_bounded_over_shards_and_tables(with_kills: bool) -> None:
    """The mean is far above the bound; shards that are killed take each round once all the same."""
    rounds = 90 if with_kills else 12
    with fleet(
        CLIPPED, Sgd(learning_rate=0.1), Synchronous(workers=2), tables=["carrier"], clip_norm=0.5
    ) as served:
        workers = [served.work(worker, push_rounds, worker, rounds) for worker in (0, 1)]
        kills = kill_in_turn(served, workers) if with_kills else 0
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert kills >= 2 * with_kills
        for shard in (0, 1):
            assert [block.version for block in served.look(shard).blocks] == [rounds, rounds]
        found = snapshot_of(served)
    expected, norm = clipped_by_torch(rounds, 0.5)
    assert norm > 5
    for name, values in expected.items():
        np.testing.assert_allclose(found.parameters[name], values, rtol=0, atol=1e-5)


def test_who_pushes_is_told_the_norm() -> None:
    _, norm = clipped_by_torch(3, 0.5)
    with fleet(
        CLIPPED, Sgd(learning_rate=0.1), Synchronous(workers=2), tables=["carrier"], clip_norm=0.5
    ) as served:
        served.work(1, push_rounds, 1, 3)
        client = served.client(0)
        push_rounds(client, 0, 3)
        assert client.norm == pytest.approx(norm, rel=1e-5)


def test_a_round_that_lacks_a_push_and_a_latecomer_are_refused() -> None:
    with fleet(
        CLIPPED, Sgd(learning_rate=0.1), Synchronous(workers=1), tables=["carrier"], clip_norm=0.5
    ) as served:
        client = served.client(0)
        client.push(gradient_of(0, 1))
        with pytest.raises(ValueError, match="of the dense parameters 1, carrier 0; a server that"):
            client.pull()
        with pytest.raises(ValueError, match="needs one of each in every round"):
            client.push(gradient_of(0, 2))
        client.push_rows("carrier", [], np.ones((0, 4), np.float32))
        client.flush()
        with pytest.raises(TrainingError, match="rounds that have begun, which worker 1 would"):
            served.client(1)
    with pytest.raises(ValueError, match=r"sync Asynchronous\(\), under which each push is a step"):
        Fleet(
            CLIPPED, Sgd(learning_rate=0.1), Asynchronous(), num_shards=1,
            settings=ServerSettings(), clip_norm=0.5,
        )  # fmt: skip


def test_rows_are_pulled_and_pushed_by_key() -> None:
    table = IMAGES[:11, :4].copy()
    with fleet(
        {"carrier": table}, Sgd(learning_rate=1.0), Asynchronous(), tables=["carrier"]
    ) as served:
        client = served.client(0)
        keys = [9, 2, 9]
        assert np.array_equal(client.pull_rows("carrier", keys), table[keys])
        client.push_rows("carrier", keys, np.array([[1.0], [2], [4]] * np.ones(4), np.float32))
        client.push_rows("carrier", [0], np.ones((1, 4), np.float32))
        client.push_rows("carrier", [], np.ones((0, 4), np.float32))
        client.flush()
        expected = table.copy()
        expected[9] -= 5
        expected[2] -= 2
        expected[0] -= 1
        np.testing.assert_allclose(client.pull_rows("carrier", range(11)), expected, atol=1e-6)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_another_server_goes_on_from_a_snapshot(num_shards: int) -> None:
    """Dense parameters and a table after 3 rounds, 2 more on other shards, against 5 at once."""
    first = {"weight": WEIGHT, "bias": BIAS, "carrier": IMAGES[:11, :4].copy()}
    settings = (Adam(learning_rate=0.01), Synchronous(workers=1))
    with fleet(first, *settings, tables=["carrier"]) as served:
        snapshot = after_rounds(served.client(0), 1, 3)
        expected = after_rounds(served.client(0), 4, 5)
    assert (snapshot.version, len(snapshot.states)) == (3, 2)
    with fleet(snapshot, *settings, num_shards=num_shards, tables=["carrier"]) as served:
        found = after_rounds(served.client(0), 4, 5)
    assert found.version == 5
    pairs = [
        (expected.parameters, found.parameters),
        *zip(expected.states, found.states, strict=True),
    ]
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys() == first.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in first)


def after_rounds(client: Client, first: int, last: int) -> Snapshot:
    with client:
        for sequence in range(first, last + 1):
            client.push(gradient_of(0, sequence))
            client.push_rows("carrier", [sequence, 7], IMAGES[sequence : sequence + 2, :4])
        client.flush()
        return client.snapshot()


def test_a_snapshot_of_parts_that_differ_is_refused() -> None:
    first = {"weight": WEIGHT, "carrier": IMAGES[:11, :4].copy()}
    with fleet(first, Sgd(learning_rate=0.1), Asynchronous(), tables=["carrier"]) as served:
        client = served.client(0)
        client.push({"weight": WEIGHT})
        client.flush()
        with pytest.raises(TrainingError, match=r"parts of the server are at versions \[0, 1\]"):
            client.snapshot()


def test_what_does_not_fit_is_refused_and_nothing_is_sent() -> None:
    parameters = {"weight": WEIGHT, "carrier": IMAGES[:11, :4]}
    with fleet(parameters, Sgd(learning_rate=1.0), Asynchronous(), tables=["carrier"]) as served:
        client = served.client(0)
        with pytest.raises(ValueError, match=r"gradients are of \['wieght'\], .* \['weight'\]"):
            client.push({"wieght": WEIGHT})
        with pytest.raises(ValueError, match=r"float32 of shape \(2,\); .* shape \(40, 64\)"):
            client.push({"weight": np.zeros(2, np.float32)})
        with pytest.raises(ValueError, match="float64 of shape"):
            client.push({"weight": WEIGHT.astype(np.float64)})
        with pytest.raises(ValueError, match="go from -1 to 3; its rows are 0 to 10"):
            client.pull_rows("carrier", [3, -1])
        with pytest.raises(ValueError, match="go from 11 to 11"):
            client.push_rows("carrier", [11], np.zeros((1, 4), np.float32))
        with pytest.raises(ValueError, match=r"need float32 of shape \(1, 4\)"):
            client.push_rows("carrier", [1], np.zeros((1, 5), np.float32))
        with pytest.raises(ValueError, match="are float64 of shape"):
            client.pull_rows("carrier", [1.5])
        with pytest.raises(ValueError, match=r"'origin' is not a table; .* \['carrier'\]"):
            client.pull_rows("origin", [1])
        assert [block.version for block in served.look(0).blocks] == [0, 0]
        assert client.traffic.num_pushes == 0


def test_two_processes_cannot_be_the_same_worker() -> None:
    with fleet({"bias": IMAGES}, Sgd(learning_rate=1.0), Asynchronous()) as served:
        with served.client(3), pytest.raises(TrainingError, match=r"worker 3, process \d+: give"):
            served.client(3)
        served.client(3).close()
        with pytest.raises(ValueError, match="worker is 256; numbers go from 0 to 255"):
            served.client(256)


def test_a_shard_that_stays_away_is_an_error() -> None:
    settings = ServerSettings(timeout_s=0.2)
    with fleet({"bias": IMAGES}, Sgd(learning_rate=1.0), Asynchronous(), settings=settings) as made:
        wait_until(lambda: _reachable(made))
        client = made.client(0)
        made.shards[1].kill()
        made.shards[1].join()
        with pytest.raises(TrainingError, match=r"not reach shard 1 within 0.2 s: .* timeout_s"):
            client.push({"bias": IMAGES})


def _reachable(served: Fleet) -> bool:
    try:
        served.client(0).close()
    except TrainingError:
        return False
    return True
