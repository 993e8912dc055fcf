"""One ledger for a whole cluster, wherever its database is.

    PostgreSQL, or SQLite on this node:  houses ──────────────────────────► database
    SQLite, and this is another node:    houses ──calls──► Scribe (actor) ─► database
                                                           on the head node

A call that lost its answer, because the scribe died, is asked again under the same id and carried
out once; see `once`. So the caller sees no difference but the time a call takes.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from raymlops.cluster import spawn
from raymlops.errors import ClusterError
from raymlops.ledger import fencing
from raymlops.ledger.engines import parse_url
from raymlops.ledger.fencing import Fence
from raymlops.ledger.ledger import Ledger
from raymlops.ledger.once import once

_PATIENCE_S = 60.0
_ANSWER_S = 120.0
_RETRY_S = 0.2
_CALLS_AT_ONCE = 8
_HEAD = "node:__internal_head__"


def open_ledger(url: str) -> Ledger:
    """The ledger at `url`, also when it is a SQLite file of the head node and this is another.

    Only a program that somebody started makes a SQLite file that is not there: by its first write,
    or on a cluster at once, since others look for it. A worker or actor of Ray never does: it would
    write to a ledger nobody reads.

    Raises:
        LedgerError: as `Ledger`, or this worker's node holds no such file.
    """
    ray = sys.modules.get("ray")
    if parse_url(url).get_backend_name() != "sqlite" or ray is None or not ray.is_initialized():
        return Ledger(url, lazily=True)
    context = ray.get_runtime_context()
    head = _head_node_id(ray.nodes())
    if head is not None and head != context.get_node_id():
        return Ledger(url, line=ScribeLine(url, head))
    return Ledger(url, must_exist=context.worker.mode == ray.WORKER_MODE)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A method of a house to be carried out; asked again, it has the same `request_id`."""

    house: str
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    request_id: str
    fences: Sequence[Fence]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a call returned or, as it was, what it raised."""

    value: Any = None
    error: Exception | None = None


class Scribe:
    """The actor beside the database: it carries out what processes on other nodes ask for.

    It remembers nothing itself. One that died is replaced by one that knows from the database what
    was answered.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._opening = threading.Lock()

    def carry_out(self, call: Call) -> Answer:
        try:
            method = getattr(self._ledger.houses[call.house], call.method)
            act = functools.partial(method, *call.args, **call.kwargs)
            with fencing.carrying(self._url, *call.fences):
                value = once(
                    self._ledger.database, call.request_id, act, lambda: _answers(method.__func__)
                )
        except Exception as error:  # the boundary of a process: the caller is told as it was
            return Answer(error=error)
        return Answer(value=value)

    @functools.cached_property
    def _opened(self) -> Ledger:
        return Ledger(self._url, must_exist=True)

    @property
    def _ledger(self) -> Ledger:
        with self._opening:
            return self._opened


class ScribeLine:
    """The way to the scribe of one ledger, from a process on another node."""

    def __init__(self, url: str, node_id: str) -> None:
        self._url = url
        self._node_id = node_id
        self._scribe: Any = None

    def call(self, house: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `method` returns there; what it raises there is raised here.

        Raises:
            ClusterError: the scribe does not answer; whether anything was written is unknown.
        """
        answer = self._ask(
            Call(
                house=house,
                method=method,
                args=args,
                kwargs=kwargs,
                request_id=secrets.token_hex(16),
                fences=fencing.carried(self._url),
            )
        )
        if answer.error is not None:
            raise answer.error
        return answer.value

    def close(self) -> None:
        """The scribe is everybody's; it goes on."""

    def _ask(self, call: Call) -> Answer:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                if self._scribe is None:
                    self._scribe = spawn(
                        Scribe,
                        scribe_name(self._url),
                        self._url,
                        node_id=self._node_id,
                        max_concurrency=_CALLS_AT_ONCE,
                    )
                answer: Answer = ray.get(self._scribe.carry_out.remote(call), timeout=_ANSWER_S)
                return answer
            except GetTimeoutError as error:
                raise ClusterError(
                    f"the ledger on the head node did not answer {call.house}.{call.method} for "
                    f"{_ANSWER_S:g} s; whether it was written is unknown"
                ) from error
            except RayActorError as error:
                self._scribe = None
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"the ledger on the head node cannot be reached for "
                        f"{call.house}.{call.method} since {_PATIENCE_S:g} s: {error}"
                    ) from error
                time.sleep(_RETRY_S)


def scribe_name(url: str) -> str:
    """The actor that writes the ledger at a SQLite URL for the nodes that do not hold it."""
    return f"raymlops-ledger-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _head_node_id(nodes: Sequence[dict[str, Any]]) -> str | None:
    found = (node["NodeID"] for node in nodes if node["Alive"] and _HEAD in node["Resources"])
    return next(found, None)


@functools.cache
def _answers(method: Any) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(method)["return"])
