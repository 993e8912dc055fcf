"""Real processes on one node: shards are killed, workers die, readers race with writers."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from raymlops.errors import LostShardError
from raymlops.train.server import (
    Adam,
    Asynchronous,
    Client,
    ServerSettings,
    Sgd,
    Stale,
    Synchronous,
)
from raymlops.train.server.sync import Sync
from tests.endurance import endurance
from tests.train.server.fleet import fleet, kill_in_turn, wait_until
from tests.train.server.pushes import BIAS, IMAGES, WEIGHT, gradient_of, push_many, replay, state


def _push_and_die(client: Client, worker: int) -> None:
    push_many(client, worker, 1, 3)
    client.flush()
    client.push(gradient_of(worker, 4))
    os._exit(9)


@pytest.mark.parametrize(
    ("sync", "clip_norm"),
    [
        (Synchronous(workers=2), None),
        (Synchronous(workers=2), 0.5),
        (Stale(bound=1), None),
        (Asynchronous(), None),
    ],
)
def test_the_dead_are_not_waited_for(sync: Sync, clip_norm: float | None) -> None:
    parameters = {"weight": WEIGHT, "bias": BIAS}
    with fleet(parameters, Sgd(learning_rate=0.1), sync, clip_norm=clip_norm) as served:
        client = served.client(0)
        worker = served.work(1, _push_and_die, 1)
        for sequence in range(1, 11):
            client.push(gradient_of(0, sequence))
            client.pull()
        client.flush()
        worker.join()
        assert [served.look(shard).blocks[0].sequences[0] for shard in (0, 1)] == [10, 10]


def test_the_dead_are_not_waited_for_when_their_shard_died_too() -> None:
    """A shard that was down when a worker died finds out from the process table."""
    parameters = {"weight": WEIGHT, "bias": BIAS}
    with fleet(parameters, Sgd(learning_rate=0.1), Synchronous(workers=2)) as served:
        client = served.client(0)
        worker = served.work(1, _sleep, 60)
        client.push(gradient_of(0, 1))
        wait_until(lambda: all(1 in served.look(shard).roster.living for shard in (0, 1)))
        served.shards[0].kill()
        served.shards[0].join()
        worker.kill()
        worker.join()
        served.kill_shard(0)
        client.flush()
        assert served.look(0).roster.living == {0}


def _take_round(client: Client) -> None:
    client.push({"weight": WEIGHT})
    client.pull()


@pytest.mark.parametrize("joined", [True, False])
def test_a_shard_that_hangs_is_not_waited_for_without_end(
    joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers waited with it, living and without a word, and nobody ended them."""
    monkeypatch.setattr("raymlops.train.server.local.PATIENCE_S", 1.5)
    with fleet({"weight": WEIGHT}, Sgd(learning_rate=0.1), Asynchronous()) as served:
        client = served.client(0)
        _take_round(client)
        hanging = served.shards[1].pid
        assert hanging is not None
        os.kill(hanging, signal.SIGSTOP)
        waits = partial(_take_round, client) if joined else partial(served.client, 1)
        told = f"worker {0 if joined else 1} heard nothing of shard 1 for 0.025 minutes"
        with pytest.raises(LostShardError, match=told):
            waits()


def _sleep(client: Client, seconds: float) -> None:
    time.sleep(seconds)


def _write_levels(client: Client, count: int) -> None:
    """Gradients that change every element alike: a whole vector has one level."""
    for _ in range(count):
        client.push({"vector": np.ones(300_000, np.float32)})


@pytest.mark.parametrize("kills", [0, 3])
def test_no_reader_sees_half_an_update(kills: int) -> None:
    parameters = {"vector": np.zeros(300_000, np.float32)}
    with fleet(parameters, Sgd(learning_rate=1.0), Asynchronous()) as served:
        for worker in (1, 2):
            served.work(worker, _write_levels, 150)
        client = served.client(0)
        cut = served.spec.partition.cuts[1]
        levels = set()
        for number in range(1_000_000):
            vector = client.pull()["vector"]
            for part in (vector[:cut], vector[cut:]):
                assert part.min() == part.max()
            levels.add(float(vector[0]))
            if kills and number % 20 == 10:
                served.kill_shard(number // 20 % 2)
                kills -= 1
            if vector.max() <= -300:
                break
        assert levels <= {-float(level) for level in range(301)}
        assert len(levels) > 10


@pytest.mark.parametrize("num_kills", [5, endurance(100)])
def test_what_was_acknowledged_is_applied_once_whoever_is_killed(num_kills: int) -> None:
    """Eight pipelined workers push while their shards are killed again and again."""
    parameters = {"weight": WEIGHT, "bias": BIAS}
    adam, settings = Adam(learning_rate=0.01), ServerSettings(num_slots=4, timeout_s=60)
    with fleet(parameters, adam, Asynchronous(), settings=settings) as served:
        kills, last = 0, 0
        while kills < num_kills:
            first, last = last + 1, last + 150
            workers = [served.work(each, push_many, each, first, last) for each in range(8)]
            kills += kill_in_turn(served, workers)
            assert [worker.exitcode for worker in workers] == [0] * 8
        for shard in (0, 1):
            journal = served.look(shard).blocks[0].journal()
            assert [entry.version for entry in journal] == list(range(1, 8 * last + 1))
            for worker in range(8):
                mine = [entry.sequence for entry in journal if entry.worker == worker]
                assert mine == list(range(1, last + 1))
        expected = replay(served, lambda given: torch.optim.Adam(given, lr=0.01))
        assert np.array_equal(state(served), expected)


def test_nothing_is_left_behind() -> None:
    shared = set(Path("/dev/shm").iterdir())
    with fleet({"bias": IMAGES}, Sgd(learning_rate=1.0), Asynchronous()) as served:
        served.work(1, _sleep, 60)
        client = served.client(0)
        client.push({"bias": IMAGES})
        assert not [
            path for path in set(Path("/dev/shm").iterdir()) - shared if "raymlops" in path.name
        ]
        processes = [*served.shards, *served.workers]
    assert all(process.exitcode is not None for process in processes)
    assert "raymlops-parameters-" + served.spec.name not in Path("/proc/net/unix").read_text()
