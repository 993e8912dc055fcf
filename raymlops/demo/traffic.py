"""Sends calls to the served model, counts what came back, and delivers labels when due."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from raymlops.demo.replay import Call
from raymlops.errors import RequestError
from raymlops.ledger import Labels
from raymlops.monitor.client import MonitorClient
from raymlops.serve import Client

_NUM_THREADS = 8
_PACED_INTERVAL_S = 0.15


@dataclass
class Tally:
    """What the client saw: every request sent is answered or failed; `last_request` by arm."""

    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    num_rows: int = 0
    by_arm: dict[str, int] = field(default_factory=dict)
    last_request: dict[str, str] = field(default_factory=dict)

    @property
    def num_sent(self) -> int:
        return len(self.latencies_s) + len(self.failures)


class Traffic:
    """A client with eight connections, which never retries: a failure counts as one."""

    def __init__(
        self, url: str, model: str, monitor: MonitorClient, *, label_delay: timedelta
    ) -> None:
        self.tally = Tally()
        self._model = model
        self._monitor = monitor
        self._label_delay = label_delay
        self._pending: deque[Call] = deque()
        self._client = Client(url, timeout_s=30.0, retries=0)
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="replay")

    def send(self, calls: Sequence[Call], *, slowly: Callable[[], bool]) -> None:
        """Sends calls in order and returns when all are answered.

        Up to eight are under way at once; while `slowly()` is true there is one every 0.15 s.
        """
        rest = iter(calls)
        while slowly() and (call := next(rest, None)) is not None:
            self._count(call, self._infer(call))
            time.sleep(_PACED_INTERVAL_S)
        remaining = list(rest)
        for call, reply in zip(remaining, self._threads.map(self._infer, remaining), strict=True):
            self._count(call, reply)
        self._pending.extend(calls)

    def deliver_labels(self, now: datetime) -> None:
        """Tells the monitor the outcomes that are known at event time `now`."""
        due: list[Call] = []
        while self._pending and self._pending[0].event_time + self._label_delay <= now:
            due.append(self._pending.popleft())
        self._monitor.label(_labels(self._model, due))

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def _infer(self, call: Call) -> tuple[str, float] | RequestError:
        """The arm that answered and how long it took, or why there was no answer."""
        started = time.perf_counter()
        try:
            answer = self._client.infer(
                self._model,
                call.columns,
                request_id=call.request_id,
                key=call.key,
                event_time=call.event_time,
            )
        except RequestError as error:
            return error
        return answer.arm, time.perf_counter() - started

    def _count(self, call: Call, reply: tuple[str, float] | RequestError) -> None:
        if isinstance(reply, RequestError):
            self.tally.failures.append(f"{reply.status} {reply.message}")
            return
        arm, latency_s = reply
        self.tally.latencies_s.append(latency_s)
        self.tally.num_rows += len(call.labels)
        self.tally.by_arm[arm] = self.tally.by_arm.get(arm, 0) + 1
        self.tally.last_request[arm] = call.request_id


def _labels(model: str, calls: Iterable[Call]) -> list[Labels]:
    return [
        Labels(
            request_id=call.request_id,
            model=model,
            labels=call.labels.tobytes(),
            at=call.event_time,
        )
        for call in calls
    ]
