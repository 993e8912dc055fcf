"""The line to a shard on another node: actor calls, and the object store for all that is big."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from raymlops.errors import LostShardError
from raymlops.train.server.payload import Payload
from raymlops.train.server.rows import Rows
from raymlops.train.server.settings import PATIENCE_S, ServerSpec

_BEATS_PER_LEASE = 4


class RemoteLink:
    """A line to `shard`. Ray repeats calls when the actor dies; the shard counts them once.

    A thread tells the shard that this worker lives.
    """

    def __init__(
        self, spec: ServerSpec, shard: int, handle: Any, *, worker: int, incarnation: int
    ) -> None:
        self._shard = shard
        self._handle = handle
        self._who = (worker, incarnation)
        num_blocks = 1 + len(spec.partition.tables)
        self._sent: list[deque[Any]] = [deque() for _ in range(num_blocks)]
        self._asked: dict[int, Any] = {}
        self._measure: Any = None
        self._closed = threading.Event()
        self._sequences: list[int] = list(self._get(handle.join.remote(*self._who)))
        period_s = spec.settings.lease_s / _BEATS_PER_LEASE
        threading.Thread(target=self._beat, args=(period_s,), daemon=True).start()

    def push(self, block: int, gradient: NDArray[Any] | Rows | Payload, *, slot: int) -> None:
        self._sequences[block] += 1
        self._sent[block].append(
            self._handle.push.remote(*self._who, block, self._sequences[block], gradient)
        )

    def wait_room(self, block: int, *, in_flight: int) -> None:
        while len(self._sent[block]) > in_flight:
            self._get(self._sent[block].popleft())

    def ask(self, block: int, keys: NDArray[np.int64] | None = None) -> None:
        self._asked[block] = self._handle.pull.remote(
            *self._who, block, self._sequences[block], keys
        )

    def read(self, block: int, out: NDArray[Any]) -> int:
        version, values = self._get(self._asked.pop(block))
        np.copyto(out, values)
        return int(version)

    def measure(self, sequence: int) -> None:
        self._measure = self._handle.measure.remote(*self._who, sequence)

    def measured(self) -> tuple[int, float]:
        version, value = self._get(self._measure)
        return int(version), float(value)

    def weigh(self, version: int, norm: float) -> None:
        self._handle.weigh.remote(version, norm)

    def take(self, block: int) -> tuple[int, Sequence[NDArray[Any]]]:
        version, numbers = self._get(self._handle.take.remote(block))
        return int(version), numbers

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._get(self._handle.leave.remote(*self._who))

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=PATIENCE_S)
        except RayError as error:
            raise LostShardError(f"shard {self._shard} is lost: {error}") from error

    def _beat(self, period_s: float) -> None:
        while not self._closed.wait(period_s):
            self._handle.contact.remote(*self._who)
