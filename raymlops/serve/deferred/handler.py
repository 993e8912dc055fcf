"""Requests that are answered later, in every protocol that infers by POST."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson
from msgspec.structs import replace

from raymlops.errors import RaymlopsError, RequestError, StorageError
from raymlops.ledger.patience import patiently_awaited
from raymlops.serve.deferred.identity import infers, request_id, what_is_asked
from raymlops.serve.deferred.policy import DeferredPolicy
from raymlops.serve.deferred.results import Results, Ticket
from raymlops.serve.web import (
    Handler,
    Refused,
    Request,
    Response,
    Routes,
    Sorting,
    answered,
    later,
    untold,
)

_logger = logging.getLogger(__name__)

_PREFERENCE = "respond-async"
_SWEEP_S = 60.0
_CALL_BACKS = 3
_CALL_BACK_TIMEOUT_S = 10.0
_NUM_THREADS = 8
_STORE_BACK_S = 5.0
"""When a client may come again whose result the store did not take or give."""
_KEPT_FIRST_S = 15.0
"""How long a webhook waits for the result to be kept, too: a client that is told may ask for it."""

P = ParamSpec("P")
T = TypeVar("T")

Owner = Callable[[Request], str]
"""Whose results a request may see, and adds to."""
Call = Callable[[str, Response, str], Awaitable[None]]
"""POSTs a response to a URL, with the id of its request; raises what keeps it from arriving."""


async def call_back(url: str, response: Response, id: str) -> None:
    """Waits for the status alone, which takes as long as it may in all, and reads no body: what
    is called may say as much as it likes, as slowly as it likes."""
    headers = {
        "content-type": response.content_type,
        "x-request-id": id,
        "x-status": str(response.status),
    }
    async with (
        asyncio.timeout(_CALL_BACK_TIMEOUT_S),
        httpx.AsyncClient(trust_env=False, timeout=None) as client,
        client.stream("POST", url, content=response.body, headers=headers) as answer,
    ):
        answer.raise_for_status()


def _reason(error: Exception) -> str:
    """What kept a webhook from being told, without its URL: who knows that may often post there,
    and httpx quotes it."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answers {error.response.status_code}"
    return type(error).__name__


class Deferring(Sorting):
    """`handler`, and requests with `Prefer: respond-async`, of which `results` keep the answers.

    A header `Webhook: URL` names who is told of the answer, if the policy allows that. To find a
    request's id no more than `max_body_bytes` of a compressed body are inflated. `refused` is told
    of those that are not accepted. Each `owner` has results of its own; without one all share them.
    """

    def __init__(
        self,
        handler: Handler,
        results: Results,
        *,
        model: str,
        policy: DeferredPolicy,
        max_body_bytes: int,
        refused: Refused = untold,
        owner: Owner | None = None,
        call: Call = call_back,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._handler = handler
        self._results = results
        self._path = f"/v2/models/{model}/results"
        self._below = f"{self._path}/"
        self._policy = policy
        self._max_body_bytes = max_body_bytes
        self._refused = refused
        self._owner = owner
        self._call = call
        self._clock = clock
        self._pending: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="deferred")
        self._submit = later(self._submitted)
        self._results_of = Routes()
        self._results_of.add("GET", f"{self._path}/{{id}}", later(self._poll))
        self._results_of.add("DELETE", f"{self._path}/{{id}}", later(self._forget))

    def sort(self, head: Request) -> Handler:
        if head.path.startswith(self._below):
            return self._results_of
        if head.method == "POST" and _PREFERENCE in head.headers.get("prefer", "").lower():
            return self._submit if infers(head.path) else self._handler
        return self._handler

    async def sweep(self) -> None:
        """Never returns; cancel it to stop."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            with suppress(RequestError):  # the store refuses, as was logged
                await self._in_store(self._results.sweep, self._clock())

    async def close(self, timeout_s: float) -> None:
        """Returns when what is pending is kept and told; what takes longer is given up."""
        if not self._pending:
            return
        _, late = await asyncio.wait(self._pending, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            _logger.warning("%d deferred requests are given up", len(late))

    async def _submitted(self, request: Request) -> Response:
        try:
            return await self._accept(request)
        except RequestError as error:
            self._refused(request, Response.refusal(error))
            raise

    async def _accept(self, request: Request) -> Response:
        webhook = request.headers.get("webhook")
        if webhook is not None and not self._policy.allows(webhook):
            raise RequestError(
                403, "this webhook is not among those that serve.deferred.webhooks allows"
            )
        self._require_room()  # before its body is looked at, which takes a thread
        limit = self._max_body_bytes
        named = await asyncio.to_thread(request_id, request, max_body_bytes=limit)
        asked = await asyncio.to_thread(what_is_asked, request)
        self._require_room()  # others came meanwhile
        id = named or secrets.token_hex(16)
        # In tasks of their own: a client that leaves ends this one, at any step.
        ticket = self._ticket(request, id, asked)
        begun = asyncio.create_task(self._in_store(self._results.begin, ticket, self._clock()))
        work = asyncio.create_task(self._work(begun, request, ticket, webhook))
        self._pending.add(work)
        work.add_done_callback(self._pending.discard)
        await asyncio.shield(begun)
        return self._pending_response(id, ("preference-applied", _PREFERENCE))

    def _require_room(self) -> None:
        if len(self._pending) >= self._policy.max_pending:
            raise RequestError(503, f"{len(self._pending)} requests are pending; try again later")

    async def _poll(self, request: Request) -> Response:
        id = request.params["id"]
        ticket = self._ticket(request, id)
        found = await self._in_store(self._results.get, ticket, self._clock())
        return found or self._pending_response(id, ("retry-after", "1"))

    async def _forget(self, request: Request) -> Response:
        ticket = self._ticket(request, request.params["id"])
        await self._in_store(self._results.forget, ticket)
        return Response(200, b"{}")

    def _ticket(self, request: Request, id: str, asked: str = "") -> Ticket:
        return Ticket(id, "" if self._owner is None else self._owner(request), asked)

    async def _work(
        self, begun: asyncio.Task[bool], request: Request, ticket: Ticket, webhook: str | None
    ) -> None:
        await asyncio.wait([begun])
        if begun.exception() is not None or not begun.result():  # which `_accept` tells
            return
        # A copy, whose `on_gone` nobody calls: the client's own is abandoned when it leaves,
        # also where its 202 waits behind another answer.
        headers = {**request.headers, "x-request-id": ticket.id}
        response = await answered(self._handler, replace(request, headers=headers, on_gone=None))
        async with asyncio.TaskGroup() as group:
            kept = group.create_task(self._keep(ticket, response))
            if webhook is not None:  # who is called back has no need of the store
                await asyncio.wait([kept], timeout=_KEPT_FIRST_S)
                await self._tell(webhook, response, ticket.id)

    async def _keep(self, ticket: Ticket, response: Response) -> None:
        """Waits some minutes for a store that is away: there will be an answer, it was said."""
        finish = partial(self._in_thread, self._results.finish, ticket, response, self._clock())
        try:
            await patiently_awaited(finish, waits=f"the result of {ticket.id} is to be kept")
        except RaymlopsError as error:
            _logger.error("the result of %s cannot be kept: %s", ticket.id, error)

    async def _in_store(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns.

        Raises:
            RequestError: it does, or 503: the store refuses; only the log says where it is.
        """
        try:
            return await self._in_thread(call, *args, **kwargs)
        except StorageError as error:
            _logger.warning("results cannot be kept or read: %s", error)
            raise RequestError(
                503, "results cannot be kept or read at the moment; try again", _STORE_BACK_S
            ) from error

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns, which may hang as the store does, in a thread of its own kind: the
        loop's few are needed by keys and the next version."""
        run = partial(call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def _tell(self, webhook: str, response: Response, id: str) -> None:
        for attempt in range(1, _CALL_BACKS + 1):
            try:
                await self._call(webhook, response, id)
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
                _logger.warning(
                    "the webhook at %s is not told of %s (%d): %s",
                    urlsplit(webhook).hostname,
                    id,
                    attempt,
                    _reason(error),
                )
                if attempt < _CALL_BACKS:
                    await asyncio.sleep(2.0 ** (attempt - 1))
            else:
                return

    def _pending_response(self, id: str, *headers: tuple[str, str]) -> Response:
        body = orjson.dumps({"id": id, "status": "pending"})
        location = ("location", f"{self._path}/{id}")
        return Response(202, body, headers=(location, *headers))
