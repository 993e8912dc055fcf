"""Rounds of the parameter server against the object store, gloo and memcpy; kills of its shards.

A round: every worker hands its gradient in and has the new weights. Ours is timed twice: with
gradients that lie where the server lends room for them, as a backward pass leaves them that writes
there, and gloo has its own; and with gradients that lie elsewhere and are copied. All processes are
Ray actors of one node. Every reference runs the same rounds, in turn, and all weights are compared
at the end.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.figures import Figure, report
from benchmarks.server_kills import kill_figures
from benchmarks.server_workers import (
    RATE,
    DictServer,
    Worker,
    arrays_of,
    object_store_rounds,
)
from raymlops.cluster import ClusterSettings, connect
from raymlops.train.server import (
    ParameterServer,
    Sgd,
    Synchronous,
)

NUM_SHARDS = 2


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
        *(
            Figure(
                name=f"{name}{how}_ms",
                unit="ms",
                ours=ours,
                references=references,
                goal="faster than gloo",
                met=ours < reduced,
            )
            for how, ours in (("", lent), ("_copied", served))
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
