"""The traffic board from afar: publish tables, wait for them, and follow them in a replica."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from raymlops.cluster import find, spawn
from raymlops.cluster.link import ActorLink
from raymlops.config import SecretUrl
from raymlops.errors import ClusterError, LedgerError, RaymlopsError
from raymlops.ledger import fencing, open_ledger
from raymlops.serve.traffic.board import (
    BOARD,
    LOADING_S,
    POLL_S,
    RETRY_S,
    Published,
    Standing,
    TrafficBoard,
)
from raymlops.serve.traffic.table import TrafficTable

_logger = logging.getLogger(__name__)

_ATTEMPTS = 5
_TIMEOUT_S = 90.0
"""How long the board may take to start and to answer, beyond what it was asked to wait."""
_SLOW_S = 15.0
"""After so long a person who waits wants to know for what."""
_SILENCE_S = 5.0
"""After so long without an answer a replica looks into the ledger itself: what was rolled back must
not wait for a board that hangs."""
_NUM_SILENCES = 4
"""After so many of these the board hangs, and does not just start."""


def publish(table: TrafficTable, *, ledger_url: str, seen: Mapping[str, Any] | None = None) -> int:
    """Splits the traffic of `table.model` by `table` from now on; returns the generation of that.

    Raises:
        ConflictError: another one was published since `seen` was, see `Releases.publish`.
        StaleLeaseError: this thread is fenced, and a newer holder of its lock has written.
        NotFoundError: the table names a version the ledger does not hold.
        ClusterError: the board does not answer; whether the table was published is unknown.
    """
    fences = fencing.carried(ledger_url)
    generation: int = _ask(ledger_url, "publish", table.model, table.to_dict(), fences, seen)
    return generation


def wait_applied(
    model: str, generation: int, *, ledger_url: str, timeout_s: float = 60.0
) -> tuple[str, ...]:
    """The replicas that follow table `generation`, once all do.

    Raises:
        UnservableError: a replica cannot serve that table.
        ReleaseError: not all did within `timeout_s`, or `LOADING_S` where one is loading it.
        ClusterError: the board does not answer.
    """
    longest_s = max(timeout_s, LOADING_S)
    slow = (
        f"table {generation} of {model} is waited for up to {longest_s / 60:g} minutes, for as "
        "long as replicas load what it names; what keeps them, such as a store that is away, is "
        "in their logs"
    )
    replicas: tuple[str, ...] = _ask(
        ledger_url, "applied", model, generation, timeout_s, wait_s=longest_s, slow=slow
    )
    return replicas


def board_name(ledger_url: str) -> str:
    """The actor that publishes what the ledger at that URL holds: one board a ledger, also when
    the password in it changes."""
    return f"{BOARD}-{hashlib.sha256(str(SecretUrl(ledger_url)).encode()).hexdigest()[:8]}"


class RemoteBoard:
    """The board, as the replicas of one model call it."""

    def __init__(self, model: str, ledger_url: str) -> None:
        self._model = model
        self._ledger_url = ledger_url
        self._name = board_name(ledger_url)
        self._link = ActorLink(self._name, timeout_s=POLL_S + _SILENCE_S)
        self._num_silences = 0

    async def wait(self, standing: Standing) -> Published | None:
        """As `TrafficBoard.wait`, and what the ledger says where the board does not answer in time.
        One that goes on to answer nothing is ended, and Ray starts another.

        Raises:
            ClusterError: it is away.
        """
        try:
            published: Published | None = await self._link.call("wait", self._model, standing)
        except ClusterError as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
        else:
            self._num_silences = 0
            return published
        self._num_silences += 1
        if self._num_silences == _NUM_SILENCES:
            self._num_silences = 0
            await asyncio.to_thread(_end, self._name)
        return await asyncio.to_thread(self._read, standing)

    def _read(self, standing: Standing) -> Published | None:
        try:
            with open_ledger(self._ledger_url) as ledger:
                found = ledger.releases.published(self._model)
        except LedgerError as error:
            raise ClusterError(
                f"actor {self._name} does not answer, and neither does the ledger: {error}"
            ) from error
        if found is None or found[0] <= standing.newest_heard:
            return None
        generation, table = found
        _logger.warning(
            "actor %s does not answer: table %d is from the ledger", self._name, generation
        )
        return Published(generation=generation, table=table)

    async def leave(self, replica: str) -> None:
        await self._link.call("leave", self._model, replica)


def _end(name: str) -> None:
    """Ends a board that stands still, and would keep all replicas from what is published, also
    from the way back. It has no memory that is not in the ledger."""
    import ray

    _logger.warning("actor %s answers nobody, and is started anew", name)
    ray.kill(find(name), no_restart=False)


def _ask(ledger_url: str, method: str, *args: Any, wait_s: float = 0.0, slow: str = "") -> Any:
    """What the board answers; one that died is started again and asked again. If it takes long,
    `slow` is told.

    That is harmless: a table published twice is the same table, under a later number.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

    name = board_name(ledger_url)
    for _ in range(_ATTEMPTS):
        board = spawn(TrafficBoard, name, ledger_url)
        try:
            answer = getattr(board, method).remote(*args)
            if slow and not ray.wait([answer], timeout=_SLOW_S)[0]:
                _logger.warning("%s", slow)
            return ray.get(answer, timeout=wait_s + _TIMEOUT_S)
        except RayTaskError as error:
            if isinstance(error.cause, RaymlopsError):
                raise error.cause from error
            raise
        except GetTimeoutError as error:
            raise ClusterError(f"actor {name} does not answer to {method}") from error
        except RayActorError:
            time.sleep(RETRY_S)
    raise ClusterError(f"actor {name} died {_ATTEMPTS} times over {method}; see its log")
