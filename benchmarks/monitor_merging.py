"""How many messages of replicas the monitor merges a second, by threads and as an actor of Ray."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, report, seconds
from benchmarks.monitor_tap import MODEL, trained
from raymlops.cluster import spawn
from raymlops.data import Columns
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.serve import TapSummary
from raymlops.serve.blocks import blocks_of
from raymlops.serve.exchange import Exchange
from raymlops.serve.summarising import summarise

NUM_SENDERS = 64
MESSAGE_ROWS = 1024
START = datetime(2024, 1, 1, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer messages")
    quick = parser.parse_args().quick
    report("monitor_merging", merging(*trained(), 1_000 if quick else 5_000))


def merging(bundle: Bundle, columns: Columns, num_messages: int) -> list[Figure]:
    """Messages a second of 1,024 rows each, from as many replicas as wait at a time."""
    figures = []
    for requests in (1, MESSAGE_ROWS):
        messages = _messages(bundle, columns, num_messages if requests == 1 else 500, requests)
        together = _merged_a_second(messages, NUM_SENDERS)
        alone = _merged_a_second(messages[: len(messages) // 5], 1)
        figures.append(
            Figure(
                name=f"merged_messages_of_{requests}_requests_per_s",
                unit="messages/s",
                ours=together,
                references={"one commit a message": alone},
                goal=">= 2000" if requests == 1 else None,
                met=together >= 2_000 if requests == 1 else None,
            )
        )
    messages = _messages(bundle, columns, num_messages, 1)
    per_s, cpu_us = _merged_by_actor(messages)
    figures += [
        Figure(
            name="merged_messages_by_a_ray_actor_per_s",
            unit="messages/s",
            ours=per_s["monitor"],
            references={"an actor that does nothing": per_s["nothing"]},
            goal=">= 2000",
            met=per_s["monitor"] >= 2_000,
        ),
        Figure(
            name="merged_message_actor_cpu_us",
            unit="us",
            ours=cpu_us["monitor"],
            references={"an actor that does nothing": cpu_us["nothing"]},
        ),
    ]
    return figures


def _messages(
    bundle: Bundle, columns: Columns, number: int, requests: int
) -> list[list[TapSummary]]:
    """By replica, its messages in order; each of 1,024 rows in so many requests."""
    version: Any = type("Version", (), {"version": "1.0.0", "bundle": bundle})
    size = MESSAGE_ROWS // requests
    rng = np.random.default_rng(0)

    def exchange(name: str) -> Exchange:
        chosen = rng.integers(0, 569, size)
        rows = {feature: column[chosen] for feature, column in columns.items()}
        scores = rng.random(size, dtype=np.float32)
        outputs = {PROBABILITY: scores}
        return Exchange(
            at=START.timestamp(),
            id=name,
            event_time=START,
            arm="champion",
            version=version,
            columns=rows,
            num_rows=size,
            outputs=outputs,
            status=200,
            latency_s=0.001,
        )

    first = summarise(
        list(blocks_of([exchange(f"q-{index}") for index in range(requests)])),
        model=MODEL,
        replica="",
        sequence=0,
    )
    found = []
    for replica in range(NUM_SENDERS):
        sent = []
        for sequence in range(number // NUM_SENDERS):
            ids = tuple(f"{replica}-{sequence}-{index}" for index in range(requests))
            predictions = replace(first.predictions, request_ids=ids)
            sent.append(
                replace(first, replica=f"r{replica}", sequence=sequence, predictions=predictions)
            )
        found.append(sent)
    return found


@contextmanager
def _new_monitor() -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/ledger.db"
        Ledger(url).close()
        yield url, str(Path(folder) / "store")


def _merged_a_second(messages: Sequence[Sequence[TapSummary]], num_threads: int) -> float:
    """By threads of this process, as those of an actor; each replica waits for its answers."""
    total = sum(len(each) for each in messages)
    with _new_monitor() as (url, store), ThreadPoolExecutor(num_threads) as threads:
        monitor = DriftMonitor(url, store, WindowPolicy(), DriftPolicy())

        def send(each: Sequence[TapSummary]) -> None:
            for message in each:
                monitor.observe(message)

        taken_s = seconds(lambda: list(threads.map(send, messages)))
        assert Ledger(url).observations.count_predictions(MODEL) == sum(
            len(message.predictions) for each in messages for message in each
        )
    return total / taken_s


def _merged_by_actor(
    messages: Sequence[Sequence[TapSummary]],
) -> tuple[dict[str, float], dict[str, float]]:
    """By an actor of Ray, from one process that stands for all replicas and waits as they do.

    Returns messages a second, and the microseconds of CPU of the actor a message, each beside that
    of an actor that only answers.
    """
    import ray

    packed = [[message.to_bytes() for message in each] for each in messages]
    total = sum(len(each) for each in packed)

    async def send_all(actor: Any) -> None:
        async def send(each: Sequence[bytes]) -> None:
            for message in each:
                await actor.observe.remote(message)

        await asyncio.gather(*[send(each) for each in packed])

    per_s, cpu_us = {}, {}
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with _new_monitor() as (url, store):
            policies = WindowPolicy(), DriftPolicy()
            for name, kind, given in (
                ("nothing", _Nothing, ()),
                ("monitor", _Timed, (url, store, *policies)),
            ):
                actor = spawn(kind, name, *given, max_concurrency=NUM_SENDERS, lists_calls=False)
                before = ray.get(actor.cpu_s.remote())
                per_s[name] = total / seconds(lambda actor=actor: asyncio.run(send_all(actor)))
                cpu_us[name] = (ray.get(actor.cpu_s.remote()) - before) / total * 1e6
            assert Ledger(url).observations.count_predictions(MODEL) == total
    finally:
        ray.shutdown()
    return per_s, cpu_us


class _Nothing:
    """Gets what the monitor gets."""

    def observe(self, _: bytes) -> int:
        return 0

    def cpu_s(self) -> float:
        return time.process_time()


class _Timed(DriftMonitor):
    def cpu_s(self) -> float:
        return time.process_time()


if __name__ == "__main__":
    main()
