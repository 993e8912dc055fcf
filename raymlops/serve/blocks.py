"""What the tap keeps of answered exchanges until its next message.

Requests that ran together are kept together: their rows lie in the arrays of their batch, so that
of each of them there is left only who asked and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from raymlops.data import Columns
from raymlops.serve.arms import LoadedVersion
from raymlops.serve.batching import Outputs
from raymlops.serve.batching.shares import Share
from raymlops.serve.exchange import Exchange


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Requests that one version answered in one arm, with event times of one day; `outputs` and
    `columns` are None where it failed to answer."""

    version: LoadedVersion
    arm: str
    day: date
    ids: list[str]
    num_rows: list[int]
    at: list[datetime]
    event_times: list[datetime]
    latencies_s: list[float]
    columns: Columns | None
    outputs: Outputs | None
    size: int
    """Rows of all requests."""


def blocks_of(exchanges: Sequence[Exchange]) -> Iterator[Block]:
    """The exchanges that came to a version and were not refused, in their order."""
    mates: list[Exchange] = []
    day = date.min
    for exchange in exchanges:
        if not exchange.num_rows or 400 <= exchange.status < 500:
            continue
        earlier, day = day, (exchange.event_time or exchange.at).date()  # in UTC, as all times are
        if mates and not (day == earlier and _belong_together(mates[-1], exchange)):
            yield _block(mates, earlier)
            mates = []
        mates.append(exchange)
    if mates:
        yield _block(mates, day)


def _belong_together(one: Exchange, next_one: Exchange) -> bool:
    """Whether they are neighbours in a batch, and of one arm."""
    ours, theirs = one.outputs, next_one.outputs
    return (
        isinstance(ours, Share)
        and isinstance(theirs, Share)
        and ours.batch is theirs.batch
        and ours.end == theirs.start
        and one.arm == next_one.arm
        and (one.status < 400) == (next_one.status < 400)
    )


def _block(mates: Sequence[Exchange], day: date) -> Block:
    first, last = mates[0], mates[-1]
    assert first.version is not None, "there are rows, so a version was to answer them"
    outputs, columns = first.outputs, first.inputs
    if isinstance(outputs, Share) and isinstance(last.outputs, Share):
        outputs = Share(outputs.batch, outputs.start, last.outputs.end)
        columns = outputs.columns
    num_rows = [each.num_rows for each in mates]
    at = [each.at for each in mates]
    event_times = [each.event_time or each.at for each in mates]
    failed = first.status >= 400
    return Block(
        version=first.version,
        arm=first.arm,
        day=day,
        ids=[each.id for each in mates],
        num_rows=num_rows,
        at=at,
        event_times=at if event_times == at else event_times,
        latencies_s=[each.latency_s for each in mates],
        columns=None if failed else columns,
        outputs=None if failed else outputs,
        size=sum(num_rows),
    )
