"""A parameter server whose shards are killed in turn, while workers push."""

from __future__ import annotations

import os
import signal
import statistics

import numpy as np
import ray

from benchmarks.figures import Figure, seconds
from raymlops.train.server import (
    Asynchronous,
    ParameterServer,
    ServerSettings,
    Sgd,
)

NUM_SHARDS = 2


class Pusher:
    """A worker that pushes ones, pipelined, until it is told to end."""

    def __init__(self, server: ParameterServer, worker: int) -> None:
        self._client = server.client(worker=worker)
        shapes = server.spec.partition.shapes
        self._ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}

    @ray.method
    def push(self, count: int) -> int:
        """Pushes `count` times, and returns how many once all are acknowledged."""
        for _ in range(count):
            self._client.push(self._ones)
        self._client.flush()
        return count


def kill_figures(num_kills: int) -> list[Figure]:
    """Eight pipelined clients, while shards are killed in turn, each as soon as it serves again."""
    with ParameterServer.start(
        {"vector": np.zeros(2048, np.float32)},
        Sgd(learning_rate=1.0),
        sync=Asynchronous(),
        num_shards=NUM_SHARDS,
        settings=ServerSettings(num_slots=8, timeout_s=120),
    ) as server:
        actor = ray.remote(Pusher).options(num_cpus=0)
        pushers = [actor.remote(server, worker) for worker in range(8)]
        ray.get([pusher.push.remote(1) for pusher in pushers])
        acknowledged, back_s = 8, []
        while len(back_s) < num_kills:
            running = [pusher.push.remote(200) for pusher in pushers]
            for shard in server.shards:
                os.kill(ray.get(shard.process.remote()), signal.SIGKILL)
                back_s.append(seconds(lambda: ray.get(shard.counters.remote())))  # noqa: B023
            acknowledged += sum(ray.get(running))
        with server.client(worker=8) as client:
            applied = client.pull()["vector"].tolist()
        for pusher in pushers:
            ray.kill(pusher)
    wrong = [-value - acknowledged for value in applied if -value != acknowledged]
    return [
        Figure(
            name=f"wrong_elements_after_{num_kills}_kills",
            unit=f"of 2048, {acknowledged} pushes",
            ours=len(wrong),
            references={},
            goal="0",
            met=not wrong,
        ),
        Figure(
            name="shard_back_after_kill_ms",
            unit="ms",
            ours=statistics.median(back_s) * 1e3,
            references={},
        ),
    ]
