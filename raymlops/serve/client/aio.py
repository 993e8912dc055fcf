"""The client for event loops."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from raymlops.errors import RequestError
from raymlops.serve.client.conversation import Attempt, Lost, converse
from raymlops.serve.client.messages import (
    Answer,
    Call,
    Columns,
    Reply,
    answer_of,
    infer_call,
    path_of,
)
from raymlops.serve.client.options import ClientOptions, in_time
from raymlops.serve.client.retrying import RetryPolicy


class AsyncClient:
    """What `Client` does, to be awaited; belongs to one event loop.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        answer = await client.infer("flights", {"dep_hour": [7.0], "carrier": ["AA"]})

    Who is cancelled waits no more; its connection takes the next request once it is answered.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        retries: int = 1,
        max_connections: int = 32,
        api_key: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._url = url
        self._options = ClientOptions(
            timeout_s=timeout_s,
            retry=RetryPolicy(retries=retries),
            max_connections=max_connections,
            api_key=api_key,
            ca_file=ca_file,
        )
        self._http = httpx.AsyncClient(**self._options.http(url))
        self._free = asyncio.Semaphore(max_connections)
        self._exchanges: set[asyncio.Task[Reply | Lost]] = set()

    async def infer(
        self,
        model: str,
        columns: Columns,
        *,
        request_id: str | None = None,
        key: str | None = None,
        event_time: datetime | None = None,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """As `Client.infer`."""
        call = infer_call(
            model,
            columns,
            request_id=request_id,
            key=key,
            event_time=event_time,
            version=version,
        )
        return answer_of(await self._send(call, timeout_s))

    async def infer_many(
        self, model: str, batches: Iterable[Columns], *, concurrency: int = 8
    ) -> AsyncIterator[Answer]:
        """As `Client.infer_many`."""
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}, at least 1 is needed")
        asked: deque[asyncio.Task[Answer]] = deque()
        try:
            for columns in batches:
                asked.append(asyncio.create_task(self.infer(model, columns)))
                if len(asked) == concurrency:
                    yield await asked.popleft()
            while asked:
                yield await asked.popleft()
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def metadata(self, model: str) -> dict[str, Any]:
        """The model's name, loaded versions, platform, inputs and outputs."""
        call = Call(method="GET", path=path_of(model), headers={})
        found: dict[str, Any] = orjson.loads((await self._send(call)).body)
        return found

    async def ready(self, model: str) -> bool:
        """Whether the model answers requests."""
        try:
            await self._send(Call(method="GET", path=f"{path_of(model)}/ready", headers={}))
        except RequestError:
            return False
        return True

    async def close(self) -> None:
        for exchange in (under_way := tuple(self._exchanges)):
            exchange.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call, timeout_s: float | None = None) -> Reply:
        timeout_s = self._options.timeout_s if timeout_s is None else timeout_s
        steps = converse(self._url, self._options.retry, timeout_s=timeout_s, clock=time.monotonic)
        came: Reply | Lost | None = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                reply: Reply = end.value
                return reply
            if isinstance(step, Attempt):
                came = await self._attempt(call, step.timeout_s)
            else:
                await asyncio.sleep(step.seconds)
                came = None

    async def _attempt(self, call: Call, timeout_s: float) -> Reply | Lost:
        """In a task of its own, which nobody cancels: where that meets httpcore between two steps,
        its pool counts the connection as in use for ever, and soon has no other."""
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._free.acquire()  # here, where whoever is cancelled leaves the queue
                exchange = asyncio.create_task(self._exchange(call, deadline))
                self._exchanges.add(exchange)
                exchange.add_done_callback(self._end)
                return await asyncio.shield(exchange)
        except TimeoutError:
            return Lost("the time is over", timed_out=True)

    def _end(self, exchange: asyncio.Task[Reply | Lost]) -> None:
        self._exchanges.discard(exchange)
        self._free.release()

    async def _exchange(self, call: Call, deadline: float) -> Reply | Lost:
        try:
            async with self._http.stream(
                call.method,
                call.path,
                content=call.body or None,
                headers=dict(call.headers),
                timeout=max(0.001, deadline - time.monotonic()),
            ) as response:
                parts = []
                async for part in response.aiter_bytes():
                    in_time(deadline)
                    parts.append(part)
        except httpx.TransportError as error:
            return Lost(str(error), timed_out=isinstance(error, httpx.TimeoutException))
        return Reply(status=response.status_code, headers=response.headers, body=b"".join(parts))
