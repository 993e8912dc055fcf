"""The server on Ray: placed, reached by workers, killed and back."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from sklearn.datasets import load_digits

from raymlops.train.compression import Int8
from raymlops.train.server import (
    Adam,
    Asynchronous,
    ParameterServer,
    ServerSettings,
    Sgd,
    Snapshot,
    Stale,
    Synchronous,
)
from raymlops.train.updaters.packing import Packing

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("two_nodes")]

IMAGES = load_digits().data.astype(np.float32) / 16 - 0.5
PARAMETERS = {"weight": IMAGES[:40], "bias": IMAGES[40, :10]}


@ray.remote(num_cpus=0)
def train(server: ParameterServer, worker: int, num_rounds: int) -> dict[str, Any]:
    """Pulls, pushes some images as gradients, and returns what it pulled last."""
    import numpy
    from sklearn.datasets import load_digits

    images = load_digits().data.astype(numpy.float32) / 16 - 0.5
    with server.client(worker=worker) as client:
        for number in range(num_rounds):
            client.pull()
            first = worker * 131 + number * 17
            client.push({"weight": images[first : first + 40], "bias": images[first + 40, :10]})
        return {name: values.copy() for name, values in client.pull().items()}


@ray.remote(num_cpus=0)
def touch() -> None:
    """Ends once the node it is sent to takes work."""


def test_shards_run_as_batch_work() -> None:
    with ParameterServer.start(PARAMETERS, Sgd(learning_rate=0.1), sync=Asynchronous()) as server:
        (pid,) = ray.get([shard.process.remote() for shard in server.shards])
        threads = [int(each) for each in os.listdir(f"/proc/{pid}/task")]
        assert [os.sched_getscheduler(each) for each in threads].count(os.SCHED_BATCH) == 1


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_workers_of_a_round_all_get_what_one_process_gets(clip_norm: float | None) -> None:
    """Whether a shard is on the worker's own node or not."""
    with ParameterServer.start(
        PARAMETERS, Adam(learning_rate=0.01), sync=Synchronous(workers=2), num_shards=2,
        clip_norm=clip_norm,
    ) as server:  # fmt: skip
        first, second = ray.get([train.remote(server, worker, 10) for worker in (0, 1)])
        assert server.counters().num_updates == 20
    parameters = [torch.from_numpy(each.copy()).requires_grad_() for each in PARAMETERS.values()]
    adam = torch.optim.Adam(parameters, lr=0.01)
    for number in range(10):
        starts = [worker * 131 + number * 17 for worker in (0, 1)]
        weights, biases = (
            [IMAGES[start : start + 40] for start in starts],
            [IMAGES[start + 40, :10] for start in starts],
        )
        for each, (one, other) in zip(parameters, (weights, biases), strict=True):
            each.grad = torch.from_numpy((one + other) / 2)
        if clip_norm is not None:
            assert torch.nn.utils.clip_grad_norm_(parameters, clip_norm) > 5
        adam.step()
    tolerance = 0.0 if clip_norm is None else 1e-5  # torch sums squares in another order
    for name, expected in zip(PARAMETERS, parameters, strict=True):
        np.testing.assert_allclose(first[name], expected.detach().numpy(), rtol=0, atol=tolerance)
        assert np.array_equal(second[name], first[name])


def _kill(actor: Any) -> None:
    os.kill(ray.get(actor.process.remote()), signal.SIGKILL)


def test_ray_brings_killed_shards_and_keepers_back_with_their_memory() -> None:
    with (
        ParameterServer.start(
            {"bias": np.zeros(1000, np.float32)}, Sgd(learning_rate=1.0), sync=Asynchronous(),
            num_shards=2,
        ) as server,
        server.client(worker=0) as client,
    ):  # fmt: skip
        actors = [server.shards[0], server.helpers[0], server.shards[1], server.shards[0]]
        for number, actor in enumerate(actors, start=1):
            for _ in range(5):
                client.push({"bias": np.full(1000, -1, np.float32)})
            _kill(actor)
            client.flush()
            assert client.pull()["bias"].tolist() == [5.0 * number] * 1000
        entries = server.journal(0)
        assert [entry.sequence for entry in entries] == list(range(1, 21))
        assert not [name for name in os.listdir("/dev/shm") if "raymlops" in name]


def test_a_shard_that_lost_its_parameters_says_so_at_once() -> None:
    """It was empty: its workers waited for it for half an hour, and who took a snapshot of it was
    given zeros."""
    with ParameterServer.start(
        {"bias": IMAGES[:4]}, Sgd(learning_rate=1.0), sync=Asynchronous(), num_shards=1
    ) as server:
        doomed = ray.get([server.shards[0].process.remote(), server.helpers[0].process.remote()])
        for process in doomed:
            os.kill(process, signal.SIGKILL)
        with pytest.raises(RayActorError, match="the parameters of shard 0 were lost"):
            ray.get(server.shards[0].take.remote(0), timeout=60)


def test_shards_are_spread_over_nodes_and_reached_on_each() -> None:
    """One shard is reached by shared memory, the other through the object store; each is named
    after what it serves."""
    table = IMAGES[:11, :4].copy()
    with (
        ParameterServer.start(
            {**PARAMETERS, "carrier": table}, Sgd(learning_rate=1.0), sync=Synchronous(workers=1),
            num_shards=2, tables=["carrier"], label="digits-7",
        ) as server,
        server.client(worker=0) as client,
    ):  # fmt: skip
        assert len(set(server.placement)) == 2
        untyped: Any = ray.util.list_named_actors()
        names = {name for name in untyped if server.spec.name in name}
        each = f"raymlops-digits-7-{server.spec.name}"
        shards = {f"{each}-shard-0", f"{each}-shard-1"}
        assert names == shards | {f"{each}-memory-{node}" for node in server.placement}
        for _ in range(6):
            client.push({name: np.full_like(each, 1) for name, each in PARAMETERS.items()})
        client.push_rows("carrier", [3, 4, 3], np.ones((3, 4), np.float32))
        pulled = client.pull()
        for name, start in PARAMETERS.items():
            np.testing.assert_allclose(pulled[name], start - 6, rtol=0, atol=1e-6)
        rows = client.pull_rows("carrier", [4, 3, 2])
        np.testing.assert_allclose(rows, table[[4, 3, 2]] - [[1], [2], [0]], rtol=0, atol=1e-6)
        _kill(server.shards[1])
        client.push({name: np.full_like(each, 1) for name, each in PARAMETERS.items()})
        for name, start in PARAMETERS.items():
            np.testing.assert_allclose(client.pull()[name], start - 7, rtol=0, atol=1e-6)


def test_payloads_are_unpacked_on_the_node_they_arrive_at() -> None:
    shapes = {name: values.shape for name, values in PARAMETERS.items()}
    packing, again = Packing(Int8(), shapes), Packing(Int8(), shapes)
    expected = Snapshot.of(PARAMETERS)
    with (
        ParameterServer.start(
            PARAMETERS, Sgd(learning_rate=0.5), sync=Synchronous(workers=1), num_shards=2
        ) as server,
        server.client(worker=0) as client,
    ):
        assert len(set(server.placement)) == 2
        partition = server.spec.partition
        numbers = [partition.values_of(shard, expected.parameters)[0] for shard in (0, 1)]
        for _ in range(3):
            client.push(PARAMETERS, packing=packing)
            for shard, start in enumerate(partition.cuts[:2]):
                gradient = partition.values_of(shard, PARAMETERS)[0]
                again.pack(gradient, start, partition.pieces(start, partition.cuts[shard + 1]))
                numbers[shard] -= np.float32(0.5) * gradient
        found = [partition.values_of(shard, client.pull())[0] for shard in (0, 1)]
        for shard in (0, 1):
            assert np.array_equal(found[shard], numbers[shard])
        assert client.traffic.pushed_bytes == packing.sent_bytes < 0.3 * 3 * partition.size_bytes


def test_a_worker_of_another_node_that_falls_silent_is_not_waited_for() -> None:
    parameters = {"bias": np.zeros(64, np.float32)}
    settings = ServerSettings(lease_s=2.0)
    with ParameterServer.start(
        parameters, Sgd(learning_rate=1.0), sync=Synchronous(workers=2), num_shards=2,
        settings=settings,
    ) as server:  # fmt: skip
        far = server.placement[1]
        place = NodeAffinitySchedulingStrategy(far, soft=False)
        silent = pushing_actor().options(num_cpus=0, scheduling_strategy=place).remote(server)
        joined = silent.push.remote()
        with server.client(worker=0) as client:
            client.push({"bias": np.ones(64, np.float32)})
            client.flush()
            ray.get(joined)
            ray.kill(silent)
            client.push({"bias": np.ones(64, np.float32)})
            assert client.pull()["bias"].tolist() == [-2.0] * 64


def pushing_actor(worker: int = 1) -> Any:
    class Pushing:
        def __init__(self, server: ParameterServer) -> None:
            self.client = server.client(worker=worker)

        def push(self) -> None:
            import numpy

            self.client.push({"bias": numpy.ones(64, numpy.float32)})
            self.client.flush()

    return ray.remote(Pushing)


def test_a_worker_whose_place_another_process_took_is_told() -> None:
    """Each took the place of the other with every push: of five that were acknowledged three were
    applied, and when one left, the other's next pull ended the shard."""
    parameters = {"bias": np.zeros(64, np.float32)}
    with ParameterServer.start(
        parameters, Sgd(learning_rate=1.0), sync=Stale(bound=9), num_shards=1
    ) as server:
        untyped: Any = ray
        (away,) = {node["NodeID"] for node in untyped.nodes() if node["Alive"]} - {
            *server.placement
        }
        place = NodeAffinitySchedulingStrategy(away, soft=False)
        far = pushing_actor().options(num_cpus=0, scheduling_strategy=place)
        first = far.remote(server)
        ray.get(first.push.remote())
        second = far.remote(server)
        ray.get(second.push.remote())
        with pytest.raises(RayTaskError, match=r"shard 0 has another process as worker 1 by now"):
            ray.get(first.push.remote())
        ray.get(second.push.remote())
        with server.client(worker=0) as here:
            here.push({"bias": np.ones(64, np.float32)})
            again = pushing_actor(0).options(num_cpus=0, scheduling_strategy=place).remote(server)
            with pytest.raises(RayActorError, match=r"shard 0 has a worker 0, process \d+: give"):
                ray.get(again.push.remote())
            here.push({"bias": np.ones(64, np.float32)})
            here.flush()
            applied = [(entry.worker, entry.sequence) for entry in server.journal(0)]
            assert sorted(applied) == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]
            assert here.pull()["bias"].tolist() == [-5.0] * 64


def test_durability_node_survives_the_loss_of_a_machine(two_nodes: Any) -> None:
    third = two_nodes.add_node(num_cpus=4, object_store_memory=200_000_000)
    ready = NodeAffinitySchedulingStrategy(third.node_id, soft=False)
    ray.get(touch.options(scheduling_strategy=ready).remote())
    start = {"bias": IMAGES[:4, :60].copy()}
    settings = ServerSettings(durability="node", timeout_s=60)
    with (
        ParameterServer.start(
            start, Adam(learning_rate=0.01), sync=Asynchronous(), num_shards=3, settings=settings
        ) as server,
        server.client(worker=0) as client,
    ):
        lost = ray.get([shard.node.remote() for shard in server.shards]).index(third.node_id)
        gradients = [{"bias": IMAGES[number : number + 4, :60]} for number in range(12)]
        for gradient in gradients[:5]:
            client.push(gradient)
        client.flush()
        two_nodes.remove_node(third, allow_graceful=False)
        for gradient in gradients[5:]:
            client.push(gradient)
        client.flush()
        assert [len(server.journal(shard)) for shard in range(3)] == [12, 12, 12]
        # Both of one were on one machine, as it came, and the next loss was that of the parameters.
        copies = server.helpers[:3]
        homes = ray.get([actor.node.remote() for actor in (*server.shards, *copies)])
        assert all(homes[shard] != homes[3 + shard] for shard in range(3))
        found = client.pull()["bias"].copy()
        _kill(server.shards[lost])
        assert np.array_equal(client.pull()["bias"], found)
    expected = torch.from_numpy(start["bias"].copy()).requires_grad_()
    adam = torch.optim.Adam([expected], lr=0.01)
    for gradient in gradients:
        expected.grad = torch.from_numpy(gradient["bias"].copy())
        adam.step()
    assert np.array_equal(found, expected.detach().numpy())
