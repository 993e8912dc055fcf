"""What a shard knows of its workers and rounds, and must not lose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Roster:
    """Kept in `memory`, a ROSTER of the arena, which outlives the process.

    A worker is one process after the other under the same number, each an `incarnation`. `norm` is
    that of the mean gradient, over all shards, that makes version `weighed`.
    """

    def __init__(self, memory: NDArray[Any]) -> None:
        self._memory = memory
        self._call()

    def _call(self) -> None:
        workers = self._memory["workers"]
        self.living = set(np.flatnonzero(workers["living"]).tolist())
        self.num_seen = int(np.count_nonzero(workers["incarnation"]))

    @property
    def is_loaded(self) -> bool:
        """Whether the first parameters are in place."""
        return bool(self._memory["loaded"])

    def note_loaded(self) -> None:
        self._memory["loaded"] = 1

    @property
    def weighed(self) -> int:
        return int(self._memory["weighed"])

    @property
    def norm(self) -> float:
        return float(self._memory["norm"])

    def weigh(self, version: int, norm: float) -> None:
        """In an order in which it may be cut off: without its version a norm means nothing."""
        self._memory["norm"] = norm
        self._memory["weighed"] = version

    def incarnation(self, worker: int) -> int:
        """Of the last process that was this worker; 0 before the first."""
        return int(self._memory["workers"][worker]["incarnation"])

    def process(self, worker: int) -> tuple[int, float]:
        """Its process id, 0 where it may be on another node, and start time."""
        entry = self._memory["workers"][worker]
        return int(entry["pid"]), float(entry["started_s"])

    def is_living(self, worker: int, incarnation: int) -> bool:
        return worker in self.living and self.incarnation(worker) == incarnation

    def enter(self, worker: int, incarnation: int, *, pid: int, started_s: float) -> None:
        entry = self._memory["workers"][worker]
        self.num_seen += int(entry["incarnation"]) == 0
        entry["incarnation"] = incarnation
        entry["pid"], entry["started_s"], entry["living"] = pid, started_s, 1
        self.living.add(worker)

    def leave(self, worker: int) -> None:
        self._memory["workers"]["living"][worker] = 0
        self.living.discard(worker)

    def to_bytes(self) -> bytes:
        return self._memory.tobytes()

    def restore(self, roster: bytes) -> None:
        """Becomes what another one was."""
        self._memory[...] = np.frombuffer(roster, self._memory.dtype)[0]
        self._call()

    def forget_processes(self) -> None:
        """They may be on another node, where their ids mean nothing: workers are heard of."""
        self._memory["workers"]["pid"] = 0
