"""How many messages of replicas the monitor merges a second, by threads and as an actor of Ray."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, report, seconds
from benchmarks.monitor_tap import MODEL, trained
from raymlops.cluster import spawn
from raymlops.cluster.link import ActorLink
from raymlops.data import Columns
from raymlops.errors import RefusedError
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.serve import BatchPolicy, TapSummary
from raymlops.serve.batching import Batcher
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.tap.blocks import blocks_of
from raymlops.serve.tap.outbox import Outbox
from raymlops.serve.tap.summarising import summarise
from raymlops.serve.versions.loaded import LoadedVersion

NUM_SENDERS = 64
NUM_THREADS = 64  # as of each monitor that raymlops starts
PACED_REPLICAS = 640
PACE_S = 0.25
PACED_MESSAGES = 32 * PACED_REPLICAS
MESSAGE_ROWS = 1024
START = datetime(2024, 1, 1, tzinfo=UTC)
_TIMEOUT_S = 60.0

Packed = Sequence[Sequence[bytes]]
"""By replica, its messages in order."""
Links = Sequence[ActorLink]
Sending = Iterable[Coroutine[Any, Any, None]]
Send = Callable[[Links, Packed], Sending]
"""What each replica does until the actor behind its link has acknowledged all its messages."""


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
    return figures + _merged_by_actor(bundle, columns, num_messages)


def _messages(
    bundle: Bundle,
    columns: Columns,
    number: int,
    requests: int,
    num_replicas: int = NUM_SENDERS,
) -> list[list[TapSummary]]:
    """By replica, its messages in order; each of 1,024 rows in so many requests."""
    version = LoadedVersion(
        version="1.0.0", bundle=bundle, batcher=Batcher(bundle.predict, BatchPolicy())
    )
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
        list(blocks_of(runs_of([exchange(f"q-{index}") for index in range(requests)]))),
        model=MODEL,
        replica="",
        sequence=0,
    )
    found = []
    for replica in range(num_replicas):
        sent = []
        for sequence in range(number // num_replicas):
            ids = tuple(f"{replica}-{sequence}-{index}" for index in range(requests))
            predictions = replace(first.predictions, request_ids=ids)
            sent.append(
                replace(first, replica=f"r{replica}", sequence=sequence, predictions=predictions)
            )
        found.append(sent)
    return found


def _packed(messages: Sequence[Sequence[TapSummary]]) -> Packed:
    return [[message.to_bytes() for message in each] for each in messages]


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


def _merged_by_actor(bundle: Bundle, columns: Columns, num_messages: int) -> list[Figure]:
    """By an actor of Ray, from one process that stands for all replicas and waits as they do."""
    import ray

    few = _packed(_messages(bundle, columns, num_messages, 1))
    many = _packed(_messages(bundle, columns, 4 * num_messages, 1))
    paced = _packed(_messages(bundle, columns, PACED_MESSAGES, 1, PACED_REPLICAS))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        idle = _measured(_Nothing, _one_a_call, few)
        alone = _measured(_Timed, _one_a_call, few)
        waiting = _measured(_Timed, _all_that_wait, many)
        at_pace = _measured(_Timed, _as_they_are_made, paced)
    finally:
        ray.shutdown()
    return [
        Figure(
            name="merged_messages_by_a_ray_actor_per_s",
            unit="messages/s",
            ours=waiting.per_s,
            references={
                "one a call": alone.per_s,
                "one a call by an actor that does nothing": idle.per_s,
                "messages a call": waiting.num_a_call,
            },
            goal=">= 2000",
            met=waiting.per_s >= 2_000,
        ),
        Figure(
            name="merged_message_actor_cpu_us",
            unit="us",
            ours=waiting.cpu_us,
            references={
                "one a call": alone.cpu_us,
                "one a call by an actor that does nothing": idle.cpu_us,
            },
        ),
        Figure(
            name=f"merged_messages_of_{PACED_REPLICAS}_replicas_per_s",
            unit="messages/s",
            ours=at_pace.per_s,
            references={"made": PACED_REPLICAS / PACE_S, "messages a call": at_pace.num_a_call},
            goal=">= 2000",
            met=at_pace.per_s >= 2_000,
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class _Rate:
    per_s: float
    cpu_us: float
    """Of the actor's process, a message."""
    num_a_call: float


def _measured(kind: type[_Nothing | _Timed], send: Send, messages: Packed) -> _Rate:
    """From the first message to the last acknowledgement, by a new actor."""
    import ray

    name = f"{kind.__name__}{send.__name__}"
    with _new_monitor() as (url, store):
        policies = WindowPolicy(), DriftPolicy()
        actor = spawn(
            kind, name, url, store, *policies, max_concurrency=NUM_THREADS, lists_calls=False
        )
        rate = asyncio.run(_rate(name, send, messages))
        ray.kill(actor)
        if kind is _Timed:
            _check_counts(url, sum(map(len, messages)))
    return rate


def _check_counts(url: str, num_messages: int) -> None:
    """That each message was counted, and none twice."""
    with Ledger(url) as ledger:
        assert ledger.observations.count_predictions(MODEL) == num_messages
        panes = ledger.observations.panes(MODEL, start=date.min, end=date.max)
        assert sum(pane.num_rows for pane in panes) == num_messages * MESSAGE_ROWS


async def _rate(name: str, send: Send, messages: Packed) -> _Rate:
    links = [ActorLink(name, timeout_s=_TIMEOUT_S) for _ in messages]
    await asyncio.gather(*[link.call("spent") for link in links])  # they have found the actor
    cpu_s, calls = await links[0].call("spent")
    started = time.perf_counter()
    await asyncio.gather(*send(links, messages))
    taken_s = time.perf_counter() - started
    cpu_s_after, calls_after = await links[0].call("spent")
    total = sum(map(len, messages))
    return _Rate(
        per_s=total / taken_s,
        cpu_us=(cpu_s_after - cpu_s) / total * 1e6,
        num_a_call=total / (calls_after - calls),
    )


def _one_a_call(links: Links, messages: Packed) -> Sending:
    """Each replica has one message, and makes the next once that is acknowledged."""

    async def replica(link: ActorLink, each: Sequence[bytes]) -> None:
        for message in each:
            await link.call("observe", message)

    return map(replica, links, messages)


def _all_that_wait(links: Links, messages: Packed) -> Sending:
    """Each replica makes messages as long as its outbox takes them."""
    return [_put(link, each, lambda _: 0.0) for link, each in zip(links, messages, strict=True)]


def _as_they_are_made(links: Links, messages: Packed) -> Sending:
    """Each replica makes a message every quarter of a second, each at a time of its own."""
    started = asyncio.get_running_loop().time()

    def replica(number: int) -> Coroutine[Any, Any, None]:
        first = started + PACE_S * number / len(messages)
        return _put(links[number], messages[number], lambda index: first + PACE_S * index)

    return map(replica, range(len(messages)))


async def _put(link: ActorLink, messages: Sequence[bytes], made_at: Callable[[int], float]) -> None:
    """As a replica, puts messages into an outbox; returns when all are acknowledged."""
    loop, outbox = asyncio.get_running_loop(), Outbox(partial(link.call, "observe"), _fail)
    running = asyncio.create_task(outbox.run())
    for index, message in enumerate(messages):
        await asyncio.sleep(made_at(index) - loop.time())
        await outbox.wait_for_room()
        outbox.put(message, num_rows=1)
    outbox.close()
    await running


def _fail(_: int, error: RefusedError) -> None:
    raise error


class _Nothing:
    """Gets what the monitor gets."""

    def __init__(self, *_: object) -> None:
        self._calls = itertools.count()

    def observe(self, *_: bytes) -> int:
        return next(self._calls)

    def spent(self) -> tuple[float, int]:
        """Seconds of CPU and calls, so far; this one is counted among them."""
        return time.process_time(), next(self._calls)


class _Timed(DriftMonitor):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._calls_so_far = itertools.count()

    def observe(self, *messages: bytes | TapSummary) -> int:
        next(self._calls_so_far)
        return super().observe(*messages)

    def spent(self) -> tuple[float, int]:
        """As of `_Nothing`."""
        return time.process_time(), next(self._calls_so_far)


if __name__ == "__main__":
    main()
