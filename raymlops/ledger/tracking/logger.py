"""Metrics by the thousand: kept in memory for a moment, written in groups.

    log(...) log(...) log(...) ──► held ──► one transaction a group ──► durable
                                    ▲ a group that fails stays held and is tried again

A row is durable once `flush` has returned, or the block has ended, after it was logged. Until then
it is at most `max_age_s` old, unless the database is away.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from raymlops.errors import ClusterError, LedgerError
from raymlops.ledger.database import now
from raymlops.ledger.tracking.metrics import Logged

Write = Callable[[str, Sequence[Logged]], None]
"""Writes a group under an id; asked again with the same id, it writes nothing twice."""

_RETRY_S = 0.1

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LogPolicy:
    """When a group is written, and how many calls are held when it cannot be."""

    max_age_s: float = 0.25
    group_calls: int = 5_000
    held_calls: int = 100_000
    patience_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.group_calls <= self.held_calls:
            raise ValueError(
                f"group_calls is {self.group_calls}, held_calls {self.held_calls}; "
                "1 <= group_calls <= held_calls"
            )


class MetricLogger:
    """The `log` of one run, to be used as a context manager; any thread may call it."""

    def __init__(self, write: Write, policy: LogPolicy) -> None:
        self._write = write
        self._policy = policy
        self._held: deque[Logged] = deque()
        self._group: tuple[str, list[Logged]] | None = None
        self._num_written = 0
        self._taking = threading.Lock()  # what is held when the block ends is all there will be
        self._writing = threading.Lock()
        self._due = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="raymlops-metrics", daemon=True)

    def __call__(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Takes the values of a step in; see `flush` for when they are durable.

        Raises:
            LedgerError: the block has ended, or `held_calls` wait already and the database takes
                none of them for `patience_s`; these values were not taken in.
            TypeError: `step` is no integer.
        """
        floats = {name: float(value) for name, value in values.items()}
        logged = Logged(floats, operator.index(step), now())
        if len(self._held) >= self._policy.held_calls:
            self.flush()
        with self._taking:
            if self._ended:
                raise LedgerError(
                    f"step {logged.step} was logged after the block of its logger had ended; log "
                    "it inside, or open another block"
                )
            self._held.append(logged)
        if len(self._held) >= self._policy.group_calls:
            self._due.set()

    def flush(self) -> None:
        """Returns once everything logged before is durable.

        Raises:
            LedgerError: the database takes nothing for `patience_s`; the rows are still held.
        """
        with self._writing:
            target = self._num_written + self._num_held()
        deadline = time.monotonic() + self._policy.patience_s
        while self._num_written < target:
            try:
                self._write_group()
                deadline = time.monotonic() + self._policy.patience_s
            except (LedgerError, ClusterError) as error:
                if time.monotonic() >= deadline:
                    raise LedgerError(
                        f"{self._num_held():,} logged steps wait for the ledger, which took none "
                        f"for {self._policy.patience_s:g} s: {error}"
                    ) from error
                time.sleep(_RETRY_S)

    def __enter__(self) -> MetricLogger:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._taking:
            self._ended = True
        self._due.set()
        try:
            self.flush()
        except LedgerError:
            if error is None:
                raise
            _logger.exception("the last metrics of a run that failed are lost")
        with contextlib.suppress(RuntimeError):  # a forked child has no such thread
            self._thread.join(timeout=1.0)

    def _num_held(self) -> int:
        group = self._group
        return len(self._held) + (len(group[1]) if group else 0)

    def _write_group(self) -> int:
        """Writes the oldest group; returns how many calls that were."""
        with self._writing:
            if self._group is None:
                size = min(len(self._held), self._policy.group_calls)
                self._group = (secrets.token_hex(16), [self._held.popleft() for _ in range(size)])
            group_id, logged = self._group
            if logged:
                self._write(group_id, logged)
            self._group = None
            self._num_written += len(logged)
            return len(logged)

    def _run(self) -> None:
        told = False
        while not self._ended:
            self._due.wait(self._policy.max_age_s)
            self._due.clear()
            try:
                while self._num_held() and self._write_group() == self._policy.group_calls:
                    pass
                told = False
            except Exception as error:  # the thread's boundary; the rows are held
                if not told:
                    _logger.warning("%d logged steps wait: %s", self._num_held(), error)
                told = True
                time.sleep(_RETRY_S)
