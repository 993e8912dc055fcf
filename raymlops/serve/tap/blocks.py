"""What the tap keeps of answered exchanges until its next message: plain arrays.

Requests that ran together are kept together: their rows lie in the arrays of their batch, so that
of each of them there is left only who asked and when. What else was made for a request is let go
while it is still hot: to keep it would cost more than all that the tap does with it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

from numpy.typing import NDArray

from raymlops.data import Columns
from raymlops.serve.batching import Outputs
from raymlops.serve.batching.shares import Batch, Share
from raymlops.serve.exchange import Exchange, Run
from raymlops.serve.versions.loaded import LoadedVersion

_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)
_event_time = attrgetter("event_time")


@dataclass(kw_only=True, slots=True, eq=False)
class Block:
    """Requests that one version answered in one arm, with event times of one day; `scores` [rows]
    and `columns` are None where it failed to answer.

    Times are seconds since 1970; `event_times` are None where all happened when they were served.
    """

    version: LoadedVersion
    arm: str
    day: date
    ids: list[str]
    num_rows: array[int]
    at: array[float]
    event_times: array[float] | None
    latencies_s: array[float]
    columns: Columns | None
    scores: NDArray[Any] | None
    size: int
    """Rows of all requests."""


def blocks_of(runs: Iterable[Run]) -> Iterator[Block]:
    """The exchanges that came to a version and were not refused, in their order."""
    for version, _, status, exchanges in runs:
        if version is None or 400 <= status < 500:
            continue
        if _lie_together(exchanges):
            yield from _blocks(exchanges)
            continue
        known = [each for each in exchanges if each.num_rows]
        for _, kin in groupby(known, key=_kinship):
            yield from _blocks(list(kin))


def _kinship(exchange: Exchange) -> tuple[Batch | Exchange, float]:
    """What those of a run share that lie together: the batch that answered them, and the day."""
    outputs = exchange.outputs
    batch = outputs.batch if isinstance(outputs, Share) else exchange
    return batch, _happened(exchange) // _DAY_S


def _lie_together(exchanges: Sequence[Exchange]) -> bool:
    """Whether all share their kinship and are about the moment at which they came, as those of a
    batch nearly always do: found without a call for each of them."""
    first, last = exchanges[0], exchanges[-1]  # in the order in which they came
    batch = getattr(first.outputs, "batch", None)
    for each in exchanges:
        outputs = each.outputs
        if type(outputs) is not Share or outputs.batch is not batch or each.event_time is not None:
            return False
    return first.at // _DAY_S == last.at // _DAY_S


def _blocks(kin: Sequence[Exchange]) -> Iterator[Block]:
    first, last = kin[0].outputs, kin[-1].outputs
    if isinstance(first, Share) and isinstance(last, Share):
        rows = Share(first.batch, first.start, last.end)
        block = _block(kin, rows)
        if block.size == rows.num_rows:  # else the client of a row between them went away
            yield block
            return
    for exchange in kin:
        yield _block([exchange], exchange.outputs)


def _block(kin: Sequence[Exchange], outputs: Outputs | None) -> Block:
    first = kin[0]
    version = first.version
    assert version is not None, "there are rows, so a version was to answer them"
    num_rows = array("i", [each.num_rows for each in kin])
    columns, scores = None, None
    if outputs is not None and first.status < 400:
        columns = outputs.columns if isinstance(outputs, Share) else first.columns
        scores = outputs[version.bundle.postprocessing.score]
    return Block(
        version=version,
        arm=first.arm,
        day=_EPOCH + timedelta(days=_happened(first) // _DAY_S),
        ids=[each.id for each in kin],
        num_rows=num_rows,
        at=array("d", [each.at for each in kin]),
        event_times=_event_times(kin),
        latencies_s=array("d", [each.latency_s for each in kin]),
        columns=columns,
        scores=scores,
        size=sum(num_rows),
    )


def _event_times(kin: Sequence[Exchange]) -> array[float] | None:
    return array("d", map(_happened, kin)) if any(map(_event_time, kin)) else None


def _happened(exchange: Exchange) -> float:
    return exchange.at if exchange.event_time is None else exchange.event_time.timestamp()
