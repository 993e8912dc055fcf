"""Both clients against the application on a port of loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
import pytest

from raymlops.data import Columns, take
from raymlops.errors import RequestError
from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import AsyncClient, Client
from raymlops.serve.client import Answer
from tests.serve.conftest import MODEL, read_columns
from tests.serve.protocols.conftest import Listening, server

__all__ = ["server"]

COLUMNS, _ = read_columns()


class _Sync:
    """The client for threads, awaited, so that one test is for both."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client = Client(url, **options)

    async def __aenter__(self) -> _Sync:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(getattr(self._client, name), *args, **kwargs)

        return call

    def infer_many(self, *args: Any, **kwargs: Any) -> Any:
        async def answers() -> Any:
            for answer in self._client.infer_many(*args, **kwargs):
                yield answer

        return answers()


CLIENTS = pytest.mark.parametrize("kind", [_Sync, AsyncClient])


def rows(start: int, stop: int) -> Columns:
    return take(COLUMNS, slice(start, stop))


@CLIENTS
@pytest.mark.parametrize("num_rows", [1, 500])
def test_answers_are_the_bundles(
    server: Listening, bundles: dict[str, Bundle], kind: Any, num_rows: int
) -> None:
    async def test() -> Answer:
        async with kind(server.url) as client:
            assert await client.ready(MODEL)
            assert not await client.ready("other")
            assert (await client.metadata(MODEL))["versions"] == ["1.0.0", "1.0.1"]
            answer: Answer = await client.infer(
                MODEL, rows(0, num_rows), request_id="r-1", version="1.0.1", timeout_s=20.0
            )
            return answer

    answer = asyncio.run(test())
    wanted = bundles["1.0.1"].predict(rows(0, num_rows))
    assert (answer.request_id, answer.version, answer.arm) == ("r-1", "1.0.1", "pinned")
    np.testing.assert_allclose(answer.outputs[PROBABILITY], wanted[PROBABILITY], rtol=1e-6)
    assert answer.outputs[PROBABILITY].dtype == np.float32
    np.testing.assert_array_equal(answer.outputs["benign"], wanted["benign"])


@CLIENTS
def test_a_column_may_be_missing_in_all_rows(server: Listening, kind: Any) -> None:
    # None alone was sent as text, which is refused where the model takes a number.
    async def test() -> list[Answer]:
        async with kind(server.url) as client:
            given = rows(1, 3)
            missing = [dict(given) | {"texture": each} for each in ([None] * 2, [np.nan] * 2)]
            return [await client.infer(MODEL, columns) for columns in missing]

    of_none, of_nan = asyncio.run(test())
    np.testing.assert_array_equal(of_none.outputs[PROBABILITY], of_nan.outputs[PROBABILITY])


@CLIENTS
def test_many_are_asked_in_order_and_few_at_a_time(
    server: Listening, bundles: dict[str, Bundle], kind: Any
) -> None:
    taken = 0

    def batches() -> Iterator[Columns]:
        for start in range(0, 500, 10):
            assert start // 10 - taken <= 4, "no batch is read before there is room for it"
            yield rows(start, start + 10)

    async def test() -> list[Answer]:
        nonlocal taken
        answers = []
        async with kind(server.url) as client:
            async for answer in client.infer_many(MODEL, batches(), concurrency=4):
                answers.append(answer)
                taken += 1
        return answers

    found = np.concatenate([answer.outputs[PROBABILITY] for answer in asyncio.run(test())])
    wanted = bundles["1.0.0"].predict(rows(0, 500))[PROBABILITY]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@CLIENTS
def test_a_refusal_among_many_ends_them(server: Listening, kind: Any) -> None:
    bad = dict(rows(0, 1)) | {"radius": np.array([-1.0])}
    batches: Iterable[Columns] = [rows(0, 1), bad, rows(1, 2)]

    answers: list[Answer] = []

    async def ask(client: Any, concurrency: int) -> None:
        async for answer in client.infer_many(MODEL, batches, concurrency=concurrency):
            answers.append(answer)

    async def test() -> None:
        async with kind(server.url) as client:
            with pytest.raises(RequestError, match="field 'radius': row 0 is -1"):
                await ask(client, 2)
            with pytest.raises(ValueError, match="concurrency is 0"):
                await ask(client, 0)

    asyncio.run(test())
    assert len(answers) == 1


@CLIENTS
def test_a_server_that_is_not_there_is_told(kind: Any) -> None:
    async def test() -> None:
        async with kind("http://127.0.0.1:9", retries=0) as client:
            with pytest.raises(RequestError, match="cannot be reached") as raised:
                await client.infer(MODEL, {"x": [1.0]})
            assert raised.value.status == 503

    asyncio.run(test())


class Told:
    """Says the head of an answer, and then `parts` of its body, to whoever connects to `url`."""

    def __init__(self, parts: Iterable[bytes], pause_s: float = 0.0) -> None:
        self._parts = tuple(parts)
        self._pause_s = pause_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.num_accepted = 0
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = self._listening.accept()
                self.num_accepted += 1
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        size = sum(map(len, self._parts))
        with connection, suppress(OSError):  # its client has gone
            while connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
                for part in self._parts:
                    connection.sendall(part)
                    time.sleep(self._pause_s)

    def close(self) -> None:
        self._listening.close()


@CLIENTS
def test_an_answer_that_comes_byte_by_byte_is_waited_for_no_longer(kind: Any) -> None:
    """Each byte began the client's timeout anew."""
    server = Told([b" "] * 400, pause_s=0.05)

    async def test() -> None:
        began = time.monotonic()
        async with kind(server.url, timeout_s=0.3) as client:
            with pytest.raises(RequestError, match=r"in time, 0\.3 s") as raised:
                await client.infer(MODEL, {"x": [1.0]})
        assert raised.value.status == 504
        assert time.monotonic() - began < 10.0

    asyncio.run(test())
    server.close()


def test_whoever_is_cancelled_leaves_the_others_their_connections(server: Listening) -> None:
    """Cancelled between two of its steps, httpcore counted a connection as in use for ever: after
    some, no request was answered any more. Nor is anybody told what another had asked."""

    async def test() -> None:
        async with AsyncClient(server.url, max_connections=2) as client:

            async def ask(name: str) -> bool:
                return (await client.infer(MODEL, rows(0, 1), request_id=name)).request_id == name

            for number in range(40):
                asked = [asyncio.create_task(ask(f"{number}-{each}")) for each in range(8)]
                await asyncio.sleep(0.0005 * number)  # at any of its steps
                for task in asked[::2]:
                    task.cancel()
                await asyncio.wait(asked)
                assert all(task.result() for task in asked[1::2])
            async with asyncio.timeout(20.0):
                assert await asyncio.gather(*map(ask, "abcdefgh")) == [True] * 8

    asyncio.run(test())


def test_a_fork_connects_anew() -> None:
    """Parent and child asked over one connection, and each read the other's answers."""
    server = Told([b"{}"])
    with Client(server.url) as client:
        assert client.ready("m")
        if (child := os.fork()) == 0:
            os._exit(0 if client.ready("m") else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert server.num_accepted == 2
        assert client.ready("m")
        assert server.num_accepted == 2
    server.close()


def test_a_key_goes_with_every_request_and_is_not_shown() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={})

    client = Client("http://server", api_key="k-123")
    headers = client._http.headers
    client._http.close()
    client._http = httpx.Client(
        base_url="http://server", headers=headers, transport=httpx.MockTransport(handle)
    )
    with client:
        assert client.ready("m")
    assert seen == ["Bearer k-123"]
    assert "k-123" not in repr(client._options)


def test_threads_share_a_client(server: Listening, bundles: dict[str, Bundle]) -> None:
    found: dict[int, float] = {}
    with Client(server.url) as client:

        def ask(row: int) -> None:
            answer = client.infer(MODEL, rows(row, row + 1))
            found[row] = float(answer.outputs[PROBABILITY][0])

        threads = [threading.Thread(target=ask, args=(row,)) for row in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wanted = bundles["1.0.0"].predict(rows(0, 8))[PROBABILITY]
    np.testing.assert_allclose([found[row] for row in range(8)], wanted, rtol=1e-6)
