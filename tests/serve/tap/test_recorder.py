"""A monitor that is lost, dead, still or slow costs rows at most, and never a request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from raymlops.errors import ClusterError, RefusedError
from raymlops.serve import TapSummary
from raymlops.serve.exchange import runs_of
from raymlops.serve.tap import recorder
from raymlops.serve.tap.steps import Steps
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.tap.traffic import Monitor, Traffic, finish, make


def test_rows_that_can_never_be_stored_are_counted_and_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    dropped: list[int] = []

    async def refuse(*messages: bytes) -> None:
        raise RefusedError("PostgreSQL text fields cannot contain NUL")

    async def test() -> None:
        traffic = Traffic(world)
        recorder = make(refuse, on_drop=dropped.append)
        recorder.note(runs_of([traffic.exchange(slice(0, 5)), traffic.exchange(slice(5, 20))]))
        await finish(recorder)
        assert recorder.pending_messages == 0

    run(test)
    assert dropped == [20]
    assert caplog.messages == [
        f"20 rows of {MODEL} never reached the monitor, which refuses them: "
        "PostgreSQL text fields cannot contain NUL"
    ]


def test_lost_messages_and_lost_acknowledgements_count_once(world: World) -> None:
    async def test() -> None:
        traffic = Traffic(world)
        monitor = Monitor(lost=(1, 2, 5), lost_acks=(3, 7, 8))
        recorder = make(monitor)
        running = asyncio.create_task(recorder.run())
        sent = 0
        for _ in range(4):
            for _ in range(12):
                recorder.note(runs_of([traffic.exchange(slice(0, 100))]))
                sent += 100
            await monitor.arrivals.get()
        recorder.close()
        await running
        assert monitor.rows == sent
        assert [summary.sequence for summary in monitor.summaries] == [0, 1, 2, 3]

    run(test)


def test_while_the_monitor_is_dead_the_oldest_rows_are_dropped_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        dropped: list[int] = []
        monitor = Monitor()
        recorder = make(monitor, on_drop=dropped.append, ring_rows=100)
        traffic = Traffic(world)
        for i in range(15):
            recorder.note(runs_of([traffic.exchange(slice(i * 10, i * 10 + 10))]))
        assert recorder.pending_rows == 100
        await finish(recorder)
        assert sum(dropped) == 50
        ids = [prediction.request_id for prediction in monitor.summaries[0].predictions]
        assert ids == [f"r-{i}" for i in range(6, 16)]

    run(test)
    assert "50 rows of tumours never reached the monitor: the ring holds 100" in caplog.messages


def test_a_monitor_that_stands_still_costs_rows_and_never_a_request(world: World) -> None:
    # As the link to an actor that was stopped: no answer, then a timeout, again and again.
    async def test() -> None:
        dropped: list[int] = []
        goes_on = asyncio.Event()
        monitor = Monitor()

        async def stopped(*messages: bytes) -> None:
            if not goes_on.is_set():
                await asyncio.sleep(0)
                raise ClusterError("no answer in time")
            await monitor(*messages)

        recorder = make(stopped, on_drop=dropped.append, ring_rows=2_000)
        running = asyncio.create_task(recorder.run())
        exchange = Traffic(world).exchange(slice(0, 100))
        most = 0
        for _ in range(200):
            recorder.note(runs_of([exchange]))  # plain code: there is nothing in it that could wait
            most = max(most, recorder.pending_rows)
            await asyncio.sleep(0)
        assert most <= 2_000
        goes_on.set()
        recorder.close()
        await running
        assert monitor.rows <= 4_000  # what was on its way, and the ring
        assert monitor.rows + sum(dropped) == 20_000

    run(test)


def test_rows_that_fall_out_behind_a_full_outbox_are_told_while_it_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_PERIOD_S", 0.0)

    async def test() -> None:
        dropped: list[int] = []

        async def stopped(*messages: bytes) -> None:
            await asyncio.Event().wait()

        tap = make(stopped, on_drop=dropped.append, ring_rows=100)
        running = asyncio.create_task(tap.run())
        exchange = Traffic(world).exchange(slice(0, 10))
        while tap.pending_messages < 16:
            tap.note(runs_of([exchange]))
            await asyncio.sleep(0)
        while not dropped:
            tap.note(runs_of([exchange]))
            await asyncio.sleep(0)
        assert tap.pending_rows == 100
        assert tap.pending_messages == 16
        running.cancel()

    run(test)


def before_each_message(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    def summarising(*args: Any, **kwargs: Any) -> Steps[TapSummary]:
        do()
        return (yield from made(*args, **kwargs))

    made = recorder.summarising
    monkeypatch.setattr(recorder, "summarising", summarising)


def test_requests_are_answered_between_two_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_MESSAGE_REQUESTS", 1)
    made_in: list[int] = []
    turn = 0

    before_each_message(monkeypatch, lambda: made_in.append(turn))

    async def test() -> None:
        nonlocal turn
        traffic, monitor = Traffic(world), Monitor()
        tap = make(monitor)
        for _ in range(6):
            tap.note(runs_of([traffic.exchange(slice(0, 10))]))
        running = asyncio.create_task(finish(tap))
        while not running.done():
            turn += 1
            await asyncio.sleep(0)
        assert len(made_in) == len(set(made_in)) == 6

    run(test)


def test_a_message_holds_no_more_requests_than_the_ledger_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_MESSAGE_REQUESTS", 4)

    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor)
        for _ in range(10):
            recorder.note(runs_of([traffic.exchange(slice(0, 3))]))
        await finish(recorder)
        assert [len(summary.predictions) for summary in monitor.summaries] == [4, 4, 2]
        assert monitor.rows == 30

    run(test)


@pytest.mark.parametrize(("num_rows", "beside"), [(100, False), (32_000, True)])
def test_only_a_large_message_is_made_beside_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, num_rows: int, beside: bool
) -> None:
    makers: list[threading.Thread] = []

    before_each_message(monkeypatch, lambda: makers.append(threading.current_thread()))

    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        tap = make(monitor)
        for _ in range(num_rows // 100):
            tap.note(runs_of([traffic.exchange(slice(0, 100))]))
        await finish(tap)
        assert [maker is not threading.current_thread() for maker in makers] == [beside]
        assert monitor.rows == num_rows

    run(test)
