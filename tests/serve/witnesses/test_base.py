from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from raymlops.serve.exchange import Exchange, Run
from raymlops.serve.versions.loaded import LoadedVersion
from raymlops.serve.witnesses import base
from raymlops.serve.witnesses.base import Witnesses
from raymlops.serve.witnesses.statistics import Statistics
from tests.serve.coroutines import run, until


class Told:
    """How many exchanges came at each telling."""

    def __init__(self) -> None:
        self.together: list[int] = []

    def note(self, runs: Sequence[Run]) -> None:
        self.together.append(sum(len(run.exchanges) for run in runs))


def test_several_batches_are_told_of_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_PATIENCE_S", 3600.0)

    async def test() -> None:
        told = Told()
        witnesses = Witnesses([told.note])
        for _ in range(10):  # turns of the event loop, a batch of 16 in each
            for _ in range(16):
                witnesses.note(Exchange(status=200))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told.together == [64, 64]
        witnesses.tell()
        assert told.together == [64, 64, 32]

    run(test)


def test_a_single_request_is_told_of_soon() -> None:
    async def test() -> None:
        told = Told()
        witnesses = Witnesses([told.note])
        for number in (1, 2):
            witnesses.note(Exchange(status=200))
            assert len(told.together) == number - 1
            await until(lambda number=number: told.together == [1] * number)  # type: ignore[misc]

    run(test)


def test_statistics_that_are_read_know_of_every_answer() -> None:
    async def test() -> None:
        statistics = Statistics(lambda: witnesses.tell())
        witnesses = Witnesses([statistics.note])
        version = cast("LoadedVersion", SimpleNamespace(version="1.0.0"))
        witnesses.note(Exchange(status=200, version=version, num_rows=3))
        assert statistics.of["1.0.0"].num_rows == 3

    run(test)
