"""What replicas tell a recorder, and a monitor that counts what comes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from raymlops.errors import ClusterError
from raymlops.serve import BatchPolicy, TapSummary
from raymlops.serve.batching import Batcher
from raymlops.serve.exchange import Exchange
from raymlops.serve.tap.outbox import Sink
from raymlops.serve.tap.recorder import Recorder
from raymlops.serve.versions.loaded import LoadedVersion
from tests.serve.conftest import MODEL, World

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


async def finish(recorder: Recorder) -> None:
    recorder.close()
    await recorder.run()
