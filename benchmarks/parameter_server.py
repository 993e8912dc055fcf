"""Rounds of the parameter server against the object store, gloo and memcpy; kills of its shards.

A round: every worker hands its gradient in and has the new weights. Ours is timed twice: with
gradients that lie where the server lends room for them, as a backward pass leaves them that writes
there, and gloo has its own; and with gradients that lie elsewhere and are copied. All processes are
Ray actors of one node. Every reference runs the same rounds, in turn, and all weights are compared
at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from benchmarks.figures import Figure, report, seconds
from raymlops.cluster import ClusterSettings, connect
from raymlops.train.server import (
    Asynchronous,
    ParameterServer,
    ServerSettings,
    Sgd,
    Synchronous,
)

RATE = 0.5
NUM_ARRAYS = 10
NUM_SHARDS = 2
Arrays = dict[str, NDArray[np.float32]]
Span = tuple[float, float]
"""When a worker's gradient was ready, and when it had the new weights; seconds of the node's clock,
which all processes share."""


def arrays_of(size_mb: float, value: float) -> Arrays:
    elements = int(size_mb * 1e6 / 4 / NUM_ARRAYS)
    return {f"layer{index}": np.full(elements, value, np.float32) for index in range(NUM_ARRAYS)}


class Worker:
    """One worker of every contestant. Worker r's gradient is r + 1 everywhere."""

    def __init__(self, rank: int, size_mb: float) -> None:
        self._rank = rank
        self._gradients = arrays_of(size_mb, rank + 1)
        self._flat = np.concatenate(list(self._gradients.values()))
        self._weights = np.zeros_like(self._flat)

    @ray.method
    def join(self, server: ParameterServer) -> None:
        self._client = server.client(worker=self._rank)

    @ray.method
    def served(self, rounds: int, lent: bool) -> list[Span]:
        """Rounds with the parameter server, of gradients in `lent` room or of others."""
        client, spans = self._client, []
        for _ in range(rounds):
            gradients: Mapping[str, Any] = self._gradients
            if lent:
                gradients = client.buffers()
                for name, values in self._gradients.items():
                    np.copyto(gradients[name], values)
            started = time.perf_counter()
            client.push(gradients)
            self._pulled = client.pull()
            spans.append((started, time.perf_counter()))
        return spans

    @ray.method
    def level(self) -> float:
        """The one value that all pulled weights have."""
        (level,) = {
            float(value) for each in self._pulled.values() for value in (each.min(), each.max())
        }
        return level

    @ray.method
    def leave(self) -> None:
        self._client.close()

    @ray.method
    def gradient(self, weights: Arrays) -> Arrays:
        """One round through the object store: weights come in, a gradient goes out."""
        assert len(weights) == NUM_ARRAYS
        return self._gradients

    @ray.method
    def meet(self, port: int, num_workers: int) -> None:
        import torch.distributed as dist

        dist.init_process_group(
            "gloo",
            init_method=f"tcp://127.0.0.1:{port}",
            rank=self._rank,
            world_size=num_workers,
        )

    @ray.method
    def reduced(self, rounds: int) -> list[Span]:
        """Rounds with gloo; every worker steps its own weights."""
        import torch
        import torch.distributed as dist

        weights, gradient = torch.from_numpy(self._weights), torch.from_numpy(self._flat).clone()
        own, spans = gradient.clone(), []
        for _ in range(rounds):
            gradient.copy_(own)
            started = time.perf_counter()
            dist.all_reduce(gradient)
            weights.add_(gradient, alpha=-RATE / dist.get_world_size())
            spans.append((started, time.perf_counter()))
        return spans

    @ray.method
    def reduced_level(self) -> float:
        (level,) = {float(self._weights.min()), float(self._weights.max())}
        return level

    @ray.method
    def copied(self, rounds: int) -> list[float]:
        """Seconds to copy the gradient once."""
        return [seconds(lambda: np.copyto(self._weights, self._flat)) for _ in range(rounds)]


class DictServer:
    """The parameter server of Ray's examples: a dict of arrays, handed around as objects."""

    def __init__(self, weights: Arrays) -> None:
        self._weights = {name: values.copy() for name, values in weights.items()}

    @ray.method
    def apply(self, *gradients: Arrays) -> Arrays:
        for name in self._weights:
            mean = sum(each[name] for each in gradients) / len(gradients)
            self._weights[name] = self._weights[name] - RATE * mean
        return self._weights


def object_store_rounds(
    workers: list[Any], server: Any, weights: Any, rounds: int
) -> tuple[Any, list[float]]:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        weights = server.apply.remote(*[worker.gradient.remote(weights) for worker in workers])
        ray.wait([weights])
        taken.append(time.perf_counter() - started)
    return weights, taken


class Contest:
    """Workers of one size, with all contestants set up and warm."""

    def __init__(self, size_mb: float, num_workers: int, *, alone: bool = False) -> None:
        self._num_workers = num_workers
        actor = ray.remote(Worker)
        self.workers = [
            actor.options(num_cpus=0).remote(rank, size_mb) for rank in range(num_workers)
        ]
        zeros = arrays_of(size_mb, 0)
        self.server = ParameterServer.start(
            zeros,
            Sgd(learning_rate=RATE),
            sync=Synchronous(workers=num_workers),
            num_shards=NUM_SHARDS,
        )
        ray.get([worker.join.remote(self.server) for worker in self.workers])
        self._served = self._stored = self._reduced = 0
        self._alone = alone
        if not alone:
            self._dicts = ray.remote(DictServer).options(num_cpus=0).remote(zeros)
            self._weights = ray.put(zeros)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            ray.get([worker.meet.remote(port, num_workers) for worker in self.workers])

    def lent(self, rounds: int) -> float:
        self._served += rounds
        return _round_s([worker.served.remote(rounds, True) for worker in self.workers])

    def served(self, rounds: int) -> float:
        self._served += rounds
        return _round_s([worker.served.remote(rounds, False) for worker in self.workers])

    def stored(self, rounds: int) -> float:
        self._stored += rounds
        self._weights, taken = object_store_rounds(self.workers, self._dicts, self._weights, rounds)
        return statistics.median(taken)

    def reduced(self, rounds: int) -> float:
        self._reduced += rounds
        return _round_s([worker.reduced.remote(rounds) for worker in self.workers])

    def copied(self, rounds: int) -> float:
        return statistics.median(ray.get(self.workers[0].copied.remote(rounds)))

    def check(self) -> None:
        """All contestants have computed the same."""
        mean = (self._num_workers + 1) / 2
        for worker in self.workers:
            found = ray.get(worker.level.remote())
            assert found == -RATE * mean * self._served, (found, self._served)
            if not self._alone:
                found = ray.get(worker.reduced_level.remote())
                assert found == -RATE * mean * self._reduced, (found, self._reduced)
        if not self._alone:
            for values in ray.get(self._weights).values():
                assert set(np.unique(values)) == {-RATE * mean * self._stored}

    def close(self) -> None:
        self.server.stop()
        for actor in [*self.workers, *([] if self._alone else [self._dicts])]:
            ray.kill(actor)


def _round_s(references: list[Any]) -> float:
    """The median round: from the last worker's gradient until the last has the new weights."""
    rounds = zip(*ray.get(references), strict=True)
    return statistics.median(
        max(end for _, end in spans) - max(start for start, _ in spans) for spans in rounds
    )


def round_figures(size_mb: float, *, blocks: int, rounds: int) -> list[Figure]:
    """Two workers against all references, in turn; medians of the blocks, and of their ratios."""
    contest = Contest(size_mb, 2)
    measures = (contest.lent, contest.served, contest.stored, contest.reduced)
    for measure in measures:
        measure(3)
    taken = [[measure(rounds) * 1e3 for measure in measures] for _ in range(blocks)]
    contest.check()
    memcpy = contest.copied(5 * rounds) * 1e3
    contest.close()
    lent, served, stored, reduced = (
        statistics.median(column) for column in zip(*taken, strict=True)
    )
    name = f"round_{size_mb:g}_mb"
    references = {
        "gloo all_reduce": reduced,
        "a dict through the object store": stored,
        "memcpy": memcpy,
    }
    ratio = statistics.median(stored / lent for lent, _, stored, _ in taken)
    has_goal = size_mb >= 40
    return [
        Figure(
            name=f"{name}_ms",
            unit="ms",
            ours=lent,
            references=references,
            goal="faster than gloo",
            met=lent < reduced,
        ),
        Figure(
            name=f"{name}_copied_ms",
            unit="ms",
            ours=served,
            references=references,
            goal="faster than gloo",
            met=served < reduced,
        ),
        Figure(
            name=f"{name}_against_objects_ratio",
            unit="times",
            ours=ratio,
            references={"a dict through the object store": 1.0},
            goal="at least 5" if has_goal else None,
            met=ratio >= 5 if has_goal else None,
        ),
        Figure(
            name=f"{name}_copied_against_objects_ratio",
            unit="times",
            ours=statistics.median(stored / served for _, served, stored, _ in taken),
            references={"a dict through the object store": 1.0},
        ),
    ]


def worker_figures(size_mb: float, *, rounds: int) -> list[Figure]:
    """The cost of more workers."""
    figures = []
    for num_workers in (1, 2, 4):
        contest = Contest(size_mb, num_workers, alone=True)
        contest.served(3)
        taken = contest.served(rounds) * 1e3
        contest.check()
        contest.close()
        name = f"round_{size_mb:g}_mb_{num_workers}_workers_ms"
        figures.append(Figure(name=name, unit="ms", ours=taken, references={}))
    return figures


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 and 40 MB, few rounds, 5 kills")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as home, connect(ClusterSettings(), home=Path(home)):
        figures = []
        for size_mb in (1, 40) if quick else (1, 40, 400):
            figures += round_figures(
                size_mb, blocks=3 if quick else 7, rounds=5 if size_mb == 400 else 20
            )
        figures += worker_figures(40, rounds=10 if quick else 30)
        figures += kill_figures(5 if quick else 100)
    report("parameter_server", figures)


if __name__ == "__main__":
    main()
