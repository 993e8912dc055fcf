"""A request to infer on its way through a model, in whatever protocol it was asked.

    parse --> arm --> check columns --> batch ... engine ... --> encode --> reply, record

A protocol says how to parse and how to encode; everything between is here. No task and no future
is made for a request: what follows the batch is called back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from raymlops.data import Columns, num_rows
from raymlops.errors import RequestError, SignatureError
from raymlops.serve.batching import Outputs
from raymlops.serve.batching.shares import Share
from raymlops.serve.exchange import Exchange, Record
from raymlops.serve.form import Form
from raymlops.serve.versions.arms import Arms
from raymlops.serve.web import Request, Response, unicode_of
from raymlops.serve.witnesses.statistics import Statistics

_logger = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class About(msgspec.Struct):
    """What a request says of itself: `key` decides the arm, `timeout_s` is None without limit, and
    `event_time`, in UTC, where it is about the moment at which it comes."""

    id: str
    key: str
    event_time: datetime | None = None
    timeout_s: float | None = None
    priority: int = 0


class Result(msgspec.Struct, eq=False):
    """What a version said, and which one did."""

    model: str
    version: str
    arm: str
    form: Form
    outputs: Outputs


class Ask(Protocol[T_co]):
    """A request to infer whose envelope is understood; `version` is set where one is named."""

    @property
    def about(self) -> About: ...

    @property
    def version(self) -> str | None: ...

    def columns(self, form: Form) -> Columns:
        """Raises RequestError, naming the field, when they are not what the model takes."""
        ...

    def encode(self, result: Result) -> T_co: ...


Parse = Callable[[R], Ask[T]]
"""Reads a request; raises RequestError when it makes no sense."""


class Inference:
    """Answers requests to `model` from `arms`, and tells `record` of each; whoever is told counts
    them in `statistics`, from which protocols answer."""

    def __init__(
        self, model: str, arms: Arms, record: Record, statistics: Statistics | None = None
    ) -> None:
        self.model = model
        self.arms = arms
        self.statistics = statistics or Statistics()
        self._record = record

    def check_model(self, model: str) -> None:
        """Raises RequestError, 404, when `model` is another than this replica's."""
        if model != self.model:
            raise RequestError(404, f"no model '{model}' is deployed here")

    def refused(self, _: Request, response: Response) -> None:
        """Records a request that was answered before it came here, as for want of a key."""
        self._record(Exchange(status=response.status, error=response.reason))

    def infer(
        self,
        request: R,
        reply: Callable[[T], None],
        *,
        parse: Parse[R, T],
        refuse: Callable[[RequestError], T],
    ) -> Callable[[], None]:
        """Calls `reply` once with what `encode` or `refuse` gave; returns how to give it up."""
        exchange = Exchange(started=time.perf_counter())
        try:
            ask = parse(request)
            about = ask.about
            exchange.id, exchange.event_time = about.id, about.event_time
            if ask.version is None:
                arm, loaded = self.arms.of_key(about.key)
            else:
                arm, loaded = self.arms.of_version(ask.version)
            exchange.arm, exchange.version = arm, loaded
            exchange.columns = columns = ask.columns(loaded.form)
            exchange.num_rows = num_rows(columns)
            return loaded.enqueue(
                columns,
                partial(self._finish, exchange, ask.encode, reply, refuse),
                timeout_s=about.timeout_s,
                priority=about.priority,
                times=exchange,
            )
        except Exception as error:  # the boundary of the process, see `_refusal`
            self._refuse(exchange, reply, refuse, error)
            return _nothing

    def _finish(
        self,
        exchange: Exchange,
        encode: Callable[[Result], T],
        reply: Callable[[T], None],
        refuse: Callable[[RequestError], T],
        outputs: Outputs | Exception,
    ) -> None:
        try:
            if isinstance(outputs, Exception):
                raise outputs
            exchange.outputs = outputs
            if isinstance(outputs, Share):
                exchange.columns = None  # while they are hot
            loaded = exchange.version
            assert loaded is not None, "it has answered"
            answer = encode(Result(self.model, loaded.version, exchange.arm, loaded.form, outputs))
        except Exception as error:  # the boundary of the process, see `_refusal`
            self._refuse(exchange, reply, refuse, error)
        else:
            reply(answer)
            self._note(exchange, 200)

    def _refuse(
        self,
        exchange: Exchange,
        reply: Callable[[T], None],
        refuse: Callable[[RequestError], T],
        error: Exception,
    ) -> None:
        refusal = _refusal(error, exchange)
        exchange.error = unicode_of(refusal.message)
        if isinstance(refusal.__cause__, SignatureError):
            exchange.fault = refusal.__cause__
        reply(refuse(refusal))
        self._note(exchange, refusal.status)

    def _note(self, exchange: Exchange, status: int) -> None:
        exchange.status = status
        exchange.latency_s = time.perf_counter() - exchange.started
        self._record(exchange)


def _refusal(error: Exception, exchange: Exchange) -> RequestError:
    """What the client is told; an error that nobody meant is logged, and none of it is shown."""
    if isinstance(error, RequestError):
        return error
    request_id = exchange.id or "unknown"
    _logger.error("request %s failed", request_id, exc_info=error)
    return RequestError(500, f"internal error, logged for request {request_id}")


def _nothing() -> None:
    pass
