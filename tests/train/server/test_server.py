"""The server on Ray: placed, reached by workers, killed and back."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import ray
import torch
from sklearn.datasets import load_digits

from raymlops.train.server import Adam, Asynchronous, ParameterServer, Sgd, Synchronous

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("shared_ray")]

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


def test_workers_of_a_round_all_get_what_one_process_gets() -> None:
    with ParameterServer.start(
        PARAMETERS, Adam(learning_rate=0.01), sync=Synchronous(workers=2), num_shards=2
    ) as server:
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
        adam.step()
    for name, expected in zip(PARAMETERS, parameters, strict=True):
        assert np.array_equal(first[name], expected.detach().numpy())
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
        actors = [server.shards[0], server.keepers[0], server.shards[1], server.shards[0]]
        for number, actor in enumerate(actors, start=1):
            for _ in range(5):
                client.push({"bias": np.full(1000, -1, np.float32)})
            _kill(actor)
            client.flush()
            assert client.pull()["bias"].tolist() == [5.0 * number] * 1000
        entries = server.journal(0)
        assert [entry.sequence for entry in entries] == list(range(1, 21))
        assert not [name for name in os.listdir("/dev/shm") if "raymlops" in name]
