from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.errors import RequestError
from raymlops.serve.bench import Load, Target, example_bodies, measure
from tests.serve.conftest import MODEL
from tests.serve.protocols.conftest import Listening, server

__all__ = ["server"]


def model(server: Listening) -> str:
    return f"{server.url}/v2/models/{MODEL}"


def test_what_was_answered_is_counted(server: Listening) -> None:
    tally = server.inference.statistics.of.get("1.0.0")
    before = 0 if tally is None else tally.num_ok
    target = example_bodies(model(server), num_rows=3)
    assert [len(json.loads(body)["inputs"][0]["data"]) for body in target.bodies] == [3, 3]
    load = asyncio.run(measure(target, connections=4, seconds=0.3, patience_s=5.0))
    server.run(asyncio.sleep(0))  # what is answered is counted right after it
    assert load.num_failed == 0
    assert load.num_ok == server.inference.statistics.of["1.0.0"].num_ok - before > 0
    assert load.per_second == load.num_ok / load.seconds
    assert 0 < load.quantiles_ms[0.5] <= load.quantiles_ms[0.99]


def test_refusals_are_failures(server: Listening) -> None:
    target = Target(url=f"{model(server)}/infer", bodies=[b"{}"])
    load = asyncio.run(measure(target, connections=1, seconds=0.1, patience_s=5.0))
    assert load.num_ok == 0
    assert load.num_failed == load.statuses[400] > 0


class _Silent(asyncio.Protocol):
    """Reads, and says nothing."""


class _Cutting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def against(kind: type[asyncio.Protocol], patience_s: float) -> Load:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(kind, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        target = Target(url=f"http://127.0.0.1:{port}/infer", bodies=[b"{}"])
        return await measure(target, connections=2, seconds=0.05, patience_s=patience_s)


def test_a_server_that_never_answers_is_no_server_without_errors() -> None:
    load = asyncio.run(against(_Silent, patience_s=0.05))
    assert (load.num_ok, load.num_lost, load.num_failed) == (0, 2, 2)


def test_connections_that_are_cut_are_lost() -> None:
    load = asyncio.run(against(_Cutting, patience_s=1.0))
    assert load.num_ok == 0
    assert load.num_lost >= 2


def test_the_command_prints_what_was_measured(server: Listening) -> None:
    arguments = ["bench", model(server), "--seconds", "0.1", "--connections", "2", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["num_failed"] == 0
    assert found["per_second"] > 0


@pytest.mark.parametrize(
    ("path", "message"),
    [("", "describes no /infer; name a model"), ("/v2/models/other", "no model 'other'")],
)
def test_what_is_no_model_is_told(server: Listening, path: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        example_bodies(f"{server.url}{path}", num_rows=1)


def test_nobody_there_is_told() -> None:
    with pytest.raises(RequestError, match="cannot be reached"):
        example_bodies("http://127.0.0.1:9/v2/models/m", num_rows=1)
