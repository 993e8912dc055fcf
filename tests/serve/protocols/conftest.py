"""The application of a model, called in this process without a network, or over loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from raymlops.models import Bundle
from raymlops.serve import Arm, BatchPolicy, TrafficTable
from raymlops.serve.deferred import DeferredPolicy, Deferring, Results
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.http import HttpLimits, HttpServer
from raymlops.serve.inference import Inference
from raymlops.serve.protocols.open_inference.grpc import GrpcServer
from raymlops.serve.replica.app import model_handler
from raymlops.serve.versions.arms import Arms
from raymlops.serve.web import Handler, Request, Response
from raymlops.serve.witnesses.statistics import Statistics
from raymlops.storage import Files
from tests.serve.conftest import MODEL

TRAFFIC = TrafficTable(
    model=MODEL,
    arms=(
        Arm(name="champion", version="1.0.0", share=1.0),
        Arm(name="challenger", version="1.0.1", share=0.0),
    ),
)


class InProcess:
    """Two versions behind their routes, on an event loop that runs while a request is answered."""

    def __init__(self, bundles: dict[str, Bundle], *, max_body_bytes: int = 1_000_000) -> None:
        self.runner = asyncio.Runner()
        self.exchanges: list[Exchange] = []
        self.arms = Arms(bundles.__getitem__, BatchPolicy())
        self.runner.run(self.arms.apply(TRAFFIC))
        self.inference = Inference(MODEL, self.arms, self.exchanges.append)
        self.handler: Handler = model_handler(self.inference, max_body_bytes=max_body_bytes)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.runner.run(self._ask(Request(method, path, body=body, headers=named)))

    def post(self, path: str, document: Any, **headers: str) -> Any:
        """What a request that is well came to."""
        response = self.ask("POST", path, json.dumps(document).encode(), **headers)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def refusal(self, path: str, document: Any, status: int = 400) -> str:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        response = self.ask("POST", path, body)
        assert response.status == status, response.body
        error: str = json.loads(response.body)["error"]
        return error

    def close(self) -> None:
        self.runner.run(self.arms.close())
        self.runner.close()

    async def _ask(self, request: Request) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.handler(request, answer.set_result)
        return await asyncio.wait_for(answer, 20.0)


class Listening:
    """The same application on ports of loopback, on an event loop of its own thread."""

    def __init__(
        self,
        bundles: dict[str, Bundle],
        results: Path,
        *,
        traffic: TrafficTable | None = None,
        max_body_bytes: int = 1_000_000,
    ) -> None:
        self._traffic = traffic or TRAFFIC
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server")
        self._thread.start()
        self.arms = Arms(bundles.__getitem__, BatchPolicy())
        self.exchanges: deque[Exchange] = deque(maxlen=100)
        statistics = Statistics()

        def record(exchange: Exchange) -> None:
            self.exchanges.append(exchange)
            statistics.note(runs_of([exchange]))

        self.inference = Inference(self._traffic.model, self.arms, record, statistics)
        policy = DeferredPolicy()
        self._deferring = Deferring(
            model_handler(self.inference, max_body_bytes=max_body_bytes),
            Results(Files(str(results)), self._traffic.model, policy),
            model=self._traffic.model,
            policy=policy,
            max_body_bytes=max_body_bytes,
        )
        self._max_body_bytes = max_body_bytes
        self.run(self._start())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30.0)

    def close(self) -> None:
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _start(self) -> None:
        await self.arms.apply(self._traffic)
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._http = HttpServer(self._deferring, HttpLimits(max_body_bytes=self._max_body_bytes))
        self._http.start()
        self._accepting = await self._http.listen(listening)
        self._grpc = GrpcServer(
            self.inference, limits=HttpLimits(max_body_bytes=self._max_body_bytes)
        )
        self.grpc = f"127.0.0.1:{await self._grpc.start('127.0.0.1', 0)}"

    async def _stop(self) -> None:
        await self._grpc.stop(1.0)
        await self._deferring.close(10.0)
        self._accepting.close()
        await self._http.drain(1.0)
        self._http.stop()
        await self.arms.close()


@pytest.fixture(scope="session")
def server(
    bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Listening]:
    server = Listening(bundles, tmp_path_factory.mktemp("results"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def app(bundles: dict[str, Bundle]) -> Iterator[InProcess]:
    app = InProcess(bundles)
    yield app
    app.close()
