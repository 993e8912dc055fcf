"""The client for threads."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


class Client:
    """Pooled connections to one server; may be shared by threads, and forks have their own.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.infer("flights", {"dep_hour": [7.0], "carrier": ["AA"]})

    A request that met a lost connection or an overloaded server is sent again, `retries` times at
    most and under the same id, so that nothing counts it twice.
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
        self._connect()

    def infer(
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
        """The model's answer for `columns`, all of one length; None, NaN and NA are missing values.

        Args:
            request_id: by which labels are matched later; a new one by default.
            key: what decides the arm, e.g. a user; the request's id by default.
            event_time: when it happened, with a zone; now by default.
            version: asks this version, whatever the traffic split.
            timeout_s: instead of the client's.

        Raises:
            RequestError: the server refused the request or could not be reached.
            ValueError: a column holds what JSON cannot.
        """
        call = infer_call(
            model,
            columns,
            request_id=request_id,
            key=key,
            event_time=event_time,
            version=version,
        )
        return answer_of(self._send(call, timeout_s))

    def infer_many(
        self, model: str, batches: Iterable[Columns], *, concurrency: int = 8
    ) -> Iterator[Answer]:
        """The answers for `batches`, in their order.

        No more than `concurrency` are asked or wait to be taken at a time, however many there are.

        Raises:
            RequestError: one was refused; those before it were given.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}, at least 1 is needed")
        with ThreadPoolExecutor(concurrency, thread_name_prefix="infer") as pool:
            asked: deque[Future[Answer]] = deque()
            try:
                for columns in batches:
                    asked.append(pool.submit(self.infer, model, columns))
                    if len(asked) == concurrency:
                        yield asked.popleft().result()
                while asked:
                    yield asked.popleft().result()
            finally:
                for future in asked:
                    future.cancel()

    def metadata(self, model: str) -> dict[str, Any]:
        """The model's name, loaded versions, platform, inputs and outputs."""
        call = Call(method="GET", path=path_of(model), headers={})
        found: dict[str, Any] = orjson.loads(self._send(call).body)
        return found

    def ready(self, model: str) -> bool:
        """Whether the model answers requests."""
        try:
            self._send(Call(method="GET", path=f"{path_of(model)}/ready", headers={}))
        except RequestError:
            return False
        return True

    def close(self) -> None:
        """Lets go of the connections it keeps."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call, timeout_s: float | None = None) -> Reply:
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
                came = self._attempt(call, step.timeout_s)
            else:
                time.sleep(step.seconds)
                came = None

    def _connect(self) -> None:
        self._http = httpx.Client(**self._options.http(self._url))
        self._pid = os.getpid()

    def _attempt(self, call: Call, timeout_s: float) -> Reply | Lost:
        if self._pid != os.getpid():  # a fork, which would read what its parent has asked for
            self._connect()
        deadline = time.monotonic() + timeout_s
        try:
            with self._http.stream(
                call.method,
                call.path,
                content=call.body or None,
                headers=dict(call.headers),
                timeout=timeout_s,
            ) as response:
                parts = []
                for part in response.iter_bytes():
                    in_time(deadline)
                    parts.append(part)
        except httpx.TransportError as error:
            return Lost(str(error), timed_out=isinstance(error, httpx.TimeoutException))
        return Reply(status=response.status_code, headers=response.headers, body=b"".join(parts))
