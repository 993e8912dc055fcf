from __future__ import annotations

import asyncio
import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from raymlops.data.slices import cells_by, cells_of, parts_of
from raymlops.errors import ClusterError, RefusedError
from raymlops.ledger import JoinPolicy, Labels, Ledger, PackedPredictions, SlicePerformance
from raymlops.models import PROBABILITY
from raymlops.monitor import ConceptPolicy, DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.serve import BatchPolicy, TapSummary
from raymlops.serve.batching import Batcher
from raymlops.serve.exchange import Exchange, runs_of
from raymlops.serve.tap import outbox, recorder
from raymlops.serve.tap.blocks import blocks_of
from raymlops.serve.tap.latency import bucket
from raymlops.serve.tap.outbox import Sink
from raymlops.serve.tap.recorder import Recorder
from raymlops.serve.tap.steps import Steps
from raymlops.serve.tap.summarising import summarise
from raymlops.serve.versions.loaded import LoadedVersion
from tests import irises
from tests.serve.conftest import MODEL, World, read_columns
from tests.serve.coroutines import run

JULY_1 = datetime(2013, 7, 1, 23, 59, tzinfo=UTC)
JULY_2 = datetime(2013, 7, 2, tzinfo=UTC)


class Traffic:
    """Makes exchanges with the world's rows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.version = LoadedVersion(
            version="1.0.0",
            bundle=world.bundles["1.0.0"],
            batcher=Batcher(world.bundles["1.0.0"].predict, BatchPolicy()),
        )
        self.number = 0

    def exchange(
        self, rows: slice, *, status: int = 200, time: datetime = JULY_1, latency_s: float = 0.001
    ) -> Exchange:
        self.number += 1
        columns = self.world.rows(rows.start, rows.stop)
        return Exchange(
            id=f"r-{self.number}",
            event_time=time,
            arm="champion",
            version=self.version,
            columns=columns,
            num_rows=rows.stop - rows.start,
            outputs=self.version.bundle.predict(columns) if status == 200 else None,
            status=status,
            latency_s=latency_s,
        )


class Monitor:
    """Counts as the ledger does; refuses the calls it is told to, before or after counting."""

    def __init__(self, *, lost: tuple[int, ...] = (), lost_acks: tuple[int, ...] = ()) -> None:
        self.calls = 0
        self.lost, self.lost_acks = lost, lost_acks
        self.rows = 0
        self.summaries: list[TapSummary] = []
        self.arrivals: asyncio.Queue[TapSummary] = asyncio.Queue()

    async def __call__(self, *messages: bytes) -> None:
        self.calls += 1
        if self.calls in self.lost:
            raise ClusterError("lost")
        for summary in map(TapSummary.from_bytes, messages):
            if summary.sequence < len(self.summaries):
                continue
            assert summary.sequence == len(self.summaries), "a message was overtaken"
            self.summaries.append(summary)
            self.arrivals.put_nowait(summary)
            self.rows += sum(pane.num_rows for pane in summary.panes)
        if self.calls in self.lost_acks:
            raise ClusterError("acknowledgement lost")


def make(sink: Sink, **options: Any) -> Recorder:
    return Recorder(model=MODEL, replica="r", sink=sink, **({"on_drop": print} | options))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_RETRY_S", 0.0)


async def finish(recorder: Recorder) -> None:
    recorder.close()
    await recorder.run()


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


def test_rows_become_counts_by_arm_and_day(world: World) -> None:
    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor)
        recorder.note(
            runs_of(
                [
                    traffic.exchange(slice(0, 5), latency_s=0.001),
                    traffic.exchange(slice(5, 20), latency_s=0.1),
                    traffic.exchange(slice(20, 30), time=JULY_2),
                    traffic.exchange(slice(30, 40), time=JULY_2, status=500),
                    traffic.exchange(slice(40, 50), time=JULY_2, status=413),
                ]
            )
        )
        await finish(recorder)
        (summary,) = monitor.summaries
        first, second = summary.panes
        assert (first.version, first.arm, first.day) == ("1.0.0", "champion", date(2013, 7, 1))
        assert (first.num_rows, first.num_failed, sum(first.latency)) == (20, 0, 2)
        assert first.latency[bucket(0.1)] == 1
        assert (second.day, second.num_rows, second.num_failed) == (date(2013, 7, 2), 10, 1)
        bundle, columns = traffic.version.bundle, world.rows(0, 20)
        wanted = bundle.profile.count(columns, bundle.predict(columns)[PROBABILITY])
        assert first.cells.tolist() == wanted.tolist()

    run(test)


def test_predictions_carry_scores_in_row_order(world: World) -> None:
    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor)
        exchange = traffic.exchange(slice(0, 7))
        recorder.note(runs_of([exchange]))
        await finish(recorder)
        (prediction,) = monitor.summaries[0].predictions
        assert exchange.outputs is not None
        scores = np.frombuffer(prediction.scores, "<f4")
        np.testing.assert_array_equal(scores, exchange.outputs[PROBABILITY])
        assert (prediction.request_id, prediction.event_time) == ("r-1", JULY_1)
        assert (prediction.num_rows, prediction.replica) == (7, "r")

    run(test)


def test_packed_predictions_are_those_of_each_request(world: World) -> None:
    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor)
        exchanges = [
            traffic.exchange(slice(0, 3), time=JULY_1),
            traffic.exchange(slice(3, 4), time=JULY_2 + timedelta(microseconds=123457)),
            traffic.exchange(slice(4, 9)),
        ]
        exchanges[1].arm = "canary"
        recorder.note(runs_of(exchanges))
        await finish(recorder)
        packed = monitor.summaries[0].predictions
        assert list(PackedPredictions.of(list(packed))) == list(packed)
        assert [packed[index] for index in (0, 1, -1)] == list(packed)
        assert packed[1:] == tuple(packed)[1:]
        for prediction, exchange in zip(packed, exchanges, strict=True):
            assert exchange.outputs is not None
            assert prediction.scores == exchange.outputs[PROBABILITY].astype("<f4").tobytes()
            assert prediction.event_time == exchange.event_time
            assert prediction.served_at.timestamp() == pytest.approx(exchange.at, abs=1e-6)
            assert (prediction.arm, prediction.version) == (exchange.arm, "1.0.0")

    run(test)


def test_a_summary_comes_out_of_its_bytes_as_it_was(world: World) -> None:
    traffic = Traffic(world)
    exchanges = [
        traffic.exchange(slice(0, 300)),
        traffic.exchange(slice(300, 301), time=JULY_2),
        traffic.exchange(slice(301, 310), time=JULY_2, status=500),
    ]
    sent = summarise(
        list(blocks_of(runs_of(exchanges))),
        model=MODEL,
        replica="r",
        sequence=7,
        slice_by=("size", "radius"),
    )
    came = TapSummary.from_bytes(sent.to_bytes())
    assert (came.model, came.replica, came.sequence) == (MODEL, "r", 7)
    assert list(came.predictions) == list(sent.predictions)
    assert came.predictions[0].slices is not None
    for mine, theirs in zip(came.panes, sent.panes, strict=True):
        assert vars(mine) | {"cells": mine.cells.tolist()} == vars(theirs) | {
            "cells": theirs.cells.tolist()
        }


def test_a_message_holds_versions_of_several_classes_and_of_none(world: World) -> None:
    async def test() -> None:
        plain, monitor = Traffic(world), Monitor()
        bundle = irises.bundle()
        version = LoadedVersion(
            version="2.0.0", bundle=bundle, batcher=Batcher(bundle.predict, BatchPolicy())
        )
        flowers = {name: values[:4] for name, values in irises.columns().items()}
        asked = Exchange(
            id="flowers",
            event_time=JULY_1,
            arm="canary",
            version=version,
            columns=flowers,
            num_rows=4,
            outputs=bundle.predict(flowers),
            status=200,
        )
        recorder = make(monitor)
        recorder.note(runs_of([plain.exchange(slice(0, 2)), asked, plain.exchange(slice(2, 3))]))
        await finish(recorder)
        (summary,) = monitor.summaries
        kept = {each.request_id: each for each in summary.predictions}
        assert [kept[name].width for name in ("r-1", "flowers", "r-2")] == [1, 3, 1]
        wanted = bundle.predict(flowers)["probabilities"]
        assert kept["flowers"].scores == wanted.tobytes()
        pane = next(each for each in summary.panes if each.arm == "canary")
        said = dict(zip(irises.SPECIES, pane.cells[bundle.profile.cells["score"]], strict=False))
        assert said == {"setosa": 4, "versicolor": 0, "virginica": 0}
        assert pane.cells[bundle.profile.cells["score confidence"]].sum() == 4

    run(test)


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


def test_requests_are_answered_between_two_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_MESSAGE_REQUESTS", 1)
    made_in: list[int] = []
    turn = 0

    def summarising(*args: Any, **kwargs: Any) -> Steps[TapSummary]:
        made_in.append(turn)
        return (yield from made(*args, **kwargs))

    made = recorder.summarising
    monkeypatch.setattr(recorder, "summarising", summarising)

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


def test_failures_alone_make_an_empty_pane(world: World) -> None:
    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor)
        recorder.note(runs_of([traffic.exchange(slice(0, 3), status=503)]))
        await finish(recorder)
        (pane,) = monitor.summaries[0].panes
        assert (pane.num_rows, pane.num_failed, pane.cells.sum()) == (0, 1, 0)
        assert len(pane.cells) == traffic.version.bundle.profile.num_cells

    run(test)


def test_an_answer_that_could_not_be_written_counts_as_failed(world: World) -> None:
    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor)
        exchange = traffic.exchange(slice(0, 3))
        exchange.status = 500
        recorder.note(runs_of([exchange]))
        await finish(recorder)
        (pane,) = monitor.summaries[0].panes
        assert (pane.num_rows, pane.num_failed) == (0, 1)
        assert len(monitor.summaries[0].predictions) == 0

    run(test)


def sliced(
    world: World, *, told: tuple[str, ...], asked: tuple[str, ...]
) -> list[SlicePerformance]:
    """What a monitor that slices by `asked` finds in what a replica told of slices by `told`."""
    summaries: list[TapSummary] = []

    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        recorder = make(monitor, slice_by=told)
        for start in range(0, 560, 40):
            recorder.note(runs_of([traffic.exchange(slice(start, start + 40), time=JULY_2)]))
        await finish(recorder)
        summaries.extend(monitor.summaries)

    run(test)
    policies = ConceptPolicy(), JoinPolicy()
    monitor = DriftMonitor(
        world.ledger_url, world.store_uri, WindowPolicy(), DriftPolicy(), *policies, asked
    )
    truth = read_columns()[1][:560]
    monitor.observe(*summaries)
    monitor.label(
        [
            Labels(
                request_id=f"r-{number + 1}",
                model=MODEL,
                labels=truth[40 * number : 40 * number + 40].astype(np.int8).tobytes(),
                at=JULY_2,
            )
            for number in range(14)
        ]
    )
    monitor.advance(MODEL, datetime(2013, 8, 1, tzinfo=UTC))
    with Ledger(world.ledger_url) as ledger:
        return ledger.observations.slices(MODEL)


def test_rows_are_told_apart_by_slice_up_to_the_monitors_verdict(world: World) -> None:
    names = ("size", "radius", "absent")
    found = sliced(world, told=names, asked=names)
    truth = read_columns()[1][:560]
    accuracy = {(row.feature, row.part): row for row in found if row.metric == "accuracy"}
    columns = world.rows(0, 560)
    said = world.bundles["1.0.0"].predict(columns)["benign"]
    for part in ("small", "large"):
        inside = columns["size"] == part
        row = accuracy["size", part]
        assert row.num_rows == inside.sum()
        assert row.value == pytest.approx((said == truth)[inside].mean())
        assert row.low < row.value <= row.high
    radius = [row for (feature, _), row in accuracy.items() if feature == "radius"]
    assert len(radius) == 4
    assert sum(row.num_rows for row in radius) == 560
    assert {feature for feature, _ in accuracy} == {"size", "radius"}


@pytest.mark.parametrize("asked", [("radius", "size"), ("size", "texture"), ("size",)])
def test_slices_by_other_features_are_left_out(world: World, asked: tuple[str, ...]) -> None:
    # Those of as many features were taken for theirs: the sizes were shown as radii.
    assert sliced(world, told=("size", "radius"), asked=asked) == []


def test_parts_of_numbers_are_ranges_with_as_many_rows(world: World) -> None:
    profile = world.bundles["1.0.0"].profile
    names = parts_of(profile, "radius")
    assert len(names) == len(profile.reference[profile.cells["radius"]])
    assert names[-1] == "missing"
    assert len(set(names)) == 5
    assert names[0].startswith("below ")
    assert parts_of(profile, "size") == ["small", "large", "other", "missing"]
    assert parts_of(profile, "absent") == []
    found = cells_of(profile, ("texture",), {"texture": np.array([np.nan, 20.0])})
    cells = cells_by(("texture",), found)
    assert cells is not None
    assert parts_of(profile, "texture")[cells[0, 0]] == "missing"
    counts = profile.bins[1].count(np.array([20.0]))
    assert counts[cells[0, 1]] == 1


@pytest.mark.parametrize(("num_rows", "beside"), [(100, False), (32_000, True)])
def test_only_a_large_message_is_made_beside_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, num_rows: int, beside: bool
) -> None:
    makers: list[threading.Thread] = []

    def summarising(*args: Any, **kwargs: Any) -> Steps[TapSummary]:
        makers.append(threading.current_thread())
        return (yield from made(*args, **kwargs))

    made = recorder.summarising
    monkeypatch.setattr(recorder, "summarising", summarising)

    async def test() -> None:
        traffic, monitor = Traffic(world), Monitor()
        tap = make(monitor)
        for _ in range(num_rows // 100):
            tap.note(runs_of([traffic.exchange(slice(0, 100))]))
        await finish(tap)
        assert [maker is not threading.current_thread() for maker in makers] == [beside]
        assert monitor.rows == num_rows

    run(test)
