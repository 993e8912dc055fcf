"""Connections that each send their next request when the last one is answered."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools
import numpy as np

_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_RECONNECT_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to send which bodies, in turn."""

    url: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    def requests(self) -> list[bytes]:
        parts = urlsplit(self.url)
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"content-type: application/json\r\n{''.join(lines)}"
        )
        return [f"{head}content-length: {len(b)}\r\n\r\n".encode() + b for b in self.bodies]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of it; a request without a reply, or with any other than 200, failed."""

    seconds: float
    num_ok: int
    num_failed: int
    num_lost: int
    statuses: Mapping[int, int]
    quantiles_ms: Mapping[float, float]

    @property
    def per_second(self) -> float:
        return self.num_ok / self.seconds


async def measure(target: Target, *, connections: int, seconds: float, patience_s: float) -> Load:
    """Asks over `connections` for `seconds`; who has no reply `patience_s` later is lost.

    Raises:
        OSError: nobody listens there.
    """
    run = _Run(target, seconds)
    (await run.connect()).close()  # whether anybody listens at all
    callers = [asyncio.create_task(run.keep_asking()) for _ in range(connections)]
    done, hung = await asyncio.wait(callers, timeout=seconds + patience_s)
    for caller in hung:
        caller.cancel()
    await asyncio.gather(*hung, return_exceptions=True)
    for caller in done:
        caller.result()
    return run.load(num_hung=len(hung))


class _Run:
    def __init__(self, target: Target, seconds: float) -> None:
        parts = urlsplit(target.url)
        is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if is_tls else 80)
        self._tls = ssl.create_default_context() if is_tls else None
        self._requests = itertools.cycle(target.requests())
        self._started = time.perf_counter()
        self._ends = self._started + seconds
        self.latencies = array("d")
        self.statuses: Counter[int] = Counter()
        self.num_lost = 0
        self.last = self._started

    def next_request(self) -> bytes | None:
        return next(self._requests) if time.perf_counter() < self._ends else None

    async def keep_asking(self) -> None:
        """Returns when the time is over; a connection that is lost is opened again."""
        while time.perf_counter() < self._ends:
            try:
                caller = await self.connect()
                await caller.ask()
            except OSError:
                self.num_lost += 1
                await asyncio.sleep(_RECONNECT_S)

    async def connect(self) -> _Caller:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(
            lambda: _Caller(self), self._host, self._port, ssl=self._tls
        )
        return caller

    def note(self, status: int, started: float) -> None:
        self.last = time.perf_counter()
        self.statuses[status] += 1
        if status == 200:
            self.latencies.append(self.last - started)

    def load(self, *, num_hung: int) -> Load:
        num_ok, num_lost = self.statuses[200], self.num_lost + num_hung
        waited = np.quantile(self.latencies, _QUANTILES) if num_ok else [float("nan")] * 4
        return Load(
            seconds=max(self.last, self._ends) - self._started,
            num_ok=num_ok,
            num_failed=self.statuses.total() - num_ok + num_lost,
            num_lost=num_lost,
            statuses=dict(self.statuses),
            quantiles_ms={q: float(w) * 1e3 for q, w in zip(_QUANTILES, waited, strict=True)},
        )


class _Caller(asyncio.Protocol):
    """One connection: httptools calls what begins with `on_`."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent: float | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self) -> None:
        """Raises ConnectionError when the server went away under a request."""
        self._send()
        try:
            await self._ended
        finally:
            self.close()

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        assert self._sent is not None, "an answer belongs to a request"
        self._run.note(self._parser.get_status_code(), self._sent)
        self._sent = None
        if self._parser.should_keep_alive():
            self._send()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        lost = ConnectionError("the server closed a connection without an answer")
        self._end(None if self._sent is None else lost)

    def _send(self) -> None:
        request = self._run.next_request()
        if request is None:
            self._end(None)
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def _end(self, error: Exception | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
