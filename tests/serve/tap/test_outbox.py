from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest

from raymlops.errors import ClusterError, RefusedError
from raymlops.serve.tap.outbox import Outbox, Sink
from tests.serve.coroutines import run

BAD = {0, 7, 8, 99, 199}  # messages that can never be stored


def make(
    monitor: Sink,
    on_refusal: Callable[[int, RefusedError], object] = lambda *_: pytest.fail("lost"),
) -> Outbox:
    return Outbox(monitor, on_refusal)


class Monitor:
    """Answers a call once the test says how."""

    def __init__(self) -> None:
        self._calls: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self._answers: asyncio.Queue[ClusterError | None] = asyncio.Queue()

    async def __call__(self, *messages: bytes) -> None:
        self._calls.put_nowait(list(messages))
        if (error := await self._answers.get()) is not None:
            raise error

    async def call(self) -> list[bytes]:
        """What the next call carries."""
        return await self._calls.get()

    def answer(self) -> None:
        self._answers.put_nowait(None)

    def fail(self) -> None:
        self._answers.put_nowait(ClusterError("no answer"))


def test_what_comes_while_a_call_is_under_way_goes_together() -> None:
    async def test() -> None:
        monitor = Monitor()
        box = make(monitor)
        running = asyncio.create_task(box.run())
        box.put(b"0", num_rows=1)
        assert await monitor.call() == [b"0"]
        for message in (b"1", b"2", b"3"):
            box.put(message, num_rows=1)
        monitor.answer()
        assert await monitor.call() == [b"1", b"2", b"3"]
        assert len(box) == 3
        box.close()
        monitor.answer()
        await running
        assert len(box) == 0

    run(test)


def test_after_a_failure_the_first_unacknowledged_message_goes_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        monitor = Monitor()
        box = make(monitor)
        running = asyncio.create_task(box.run())
        box.put(b"0", num_rows=1)
        for number, message in enumerate((b"1", b"2", b"3"), start=1):
            assert len(await monitor.call()) == number
            box.put(message, num_rows=1)
            monitor.fail()
        assert await monitor.call() == [b"0", b"1", b"2", b"3"]
        box.put(b"4", num_rows=1)
        monitor.answer()
        assert await monitor.call() == [b"4"]
        monitor.fail()
        assert await monitor.call() == [b"4"]
        box.close()
        monitor.answer()
        await running

    run(test)
    away = "the monitor is away, the tap waits for it: no answer"
    assert caplog.messages == [away, away]  # once each time that it goes


@pytest.mark.parametrize(
    ("size_bytes", "num_messages"), [(10_000, 16), (60_000, 5), (1 << 18, 1), (1 << 20, 1)]
)
def test_few_messages_fill_it_and_of_large_ones_fewer(size_bytes: int, num_messages: int) -> None:
    async def test() -> None:
        monitor = Monitor()
        box = make(monitor)
        for _ in range(num_messages):
            assert box.has_room
            box.put(bytes(size_bytes), num_rows=1)
        assert not box.has_room
        running = asyncio.create_task(box.run())
        assert len(await monitor.call()) == num_messages
        assert not box.has_room
        monitor.answer()
        await box.wait_for_room()
        assert len(box) == 0
        box.close()
        await running

    run(test)


def test_once_closed_it_runs_until_everything_is_acknowledged() -> None:
    async def test() -> None:
        monitor = Monitor()
        box = make(monitor)
        running = asyncio.create_task(box.run())
        box.put(b"0", num_rows=1)
        await monitor.call()
        box.put(b"1", num_rows=1)
        box.close()
        monitor.fail()
        assert await monitor.call() == [b"0", b"1"]
        assert not running.done()
        monitor.answer()
        await running

    run(test)


def test_an_empty_one_ends_when_it_is_closed() -> None:
    async def test() -> None:
        box = make(Monitor())
        running = asyncio.create_task(box.run())
        await asyncio.sleep(0)
        box.close()
        await running

    run(test)


def test_one_that_is_refused_for_good_goes_and_takes_no_other_with_it() -> None:
    """It once kept all messages behind it for ever, as if the monitor were away."""
    calls: list[list[bytes]] = []
    refused: list[tuple[int, str]] = []

    async def monitor(*messages: bytes) -> None:
        calls.append(list(messages))
        if b"bad" in messages:
            raise RefusedError("it holds a NUL")

    async def test() -> None:
        box = make(monitor, lambda num_rows, error: refused.append((num_rows, str(error))))
        for message, num_rows in ((b"0", 1), (b"bad", 20), (b"2", 300)):
            box.put(message, num_rows=num_rows)
        box.close()
        await box.run()
        assert len(box) == 0
        assert box.has_room

    run(test)
    assert calls == [[b"0", b"bad", b"2"], [b"0"], [b"bad"], [b"bad"], [b"bad"], [b"2"]]
    assert refused == [(20, "it holds a NUL")]


def test_a_monitor_that_is_away_loses_nothing_however_long() -> None:
    calls = itertools.count()

    async def monitor(*messages: bytes) -> None:
        if next(calls) < 1_000:
            raise ClusterError("no answer")

    async def test() -> None:
        box = make(monitor)
        box.put(b"0", num_rows=1)
        box.close()
        await box.run()

    run(test)
    assert next(calls) == 1_001


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_each_message_counts_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    counted: list[int] = []
    refused: list[int] = []

    async def monitor(*messages: bytes) -> None:
        """Counts as the ledger does."""
        await asyncio.sleep(0)
        if chance.random() < 0.3:
            raise ClusterError("the call is lost")
        if not BAD.isdisjoint(map(int, messages)):
            raise RefusedError("a message is bad")
        for number in map(int, messages):
            following = counted[-1] + 1 if counted else 0
            assert BAD.issuperset(range(following, number)), "a message was overtaken"
            if number >= following:
                counted.append(number)
        if chance.random() < 0.3:
            raise ClusterError("the answer is lost")

    async def test() -> None:
        box = make(monitor, lambda num_rows, _: refused.append(num_rows))
        running = asyncio.create_task(box.run())
        for number in range(200):
            await box.wait_for_room()
            box.put(b"%d" % number, num_rows=1)
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        box.close()
        await running

    run(test)
    assert counted == [number for number in range(200) if number not in BAD]
    assert len(refused) == len(BAD)
