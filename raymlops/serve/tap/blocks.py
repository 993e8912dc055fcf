"""What the tap keeps of answered exchanges until its next message: plain arrays.

Requests that ended alike are kept together: their rows lie in the arrays of the batches that they
ran in, so that of each of them there is left only who asked and when. What else was made for a
request is let go while it is still hot: to keep it would cost more than all that the tap does with
it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any, cast

from numpy.typing import NDArray

from raymlops.data import Columns
from raymlops.serve.batching.shares import Batch, Share
from raymlops.serve.exchange import Exchange, Run
from raymlops.serve.versions.loaded import LoadedVersion

_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)


@dataclass(kw_only=True, slots=True, eq=False)
class Block:
    """Requests that one version answered, or failed to, in one arm, with event times of one day.

    Their rows lie one after the other in `columns` and `scores`, [rows] or [rows, classes], of the
    batches that they ran in: both are empty where the version failed to answer. Times are seconds
    since 1970; `event_times` are None where all happened when they were served.
    """

    version: LoadedVersion
    arm: str
    day: date
    answered: bool
    ids: list[str]
    num_rows: array[int]
    at: array[float]
    event_times: array[float] | None
    latencies_s: array[float]
    columns: list[Columns]
    scores: list[NDArray[Any]]
    size: int
    """Rows of all requests."""
    num_values: int
    """Of the tensors in these rows."""


def blocks_of(runs: Iterable[Run]) -> Iterator[Block]:
    """The exchanges that came to a version and were not refused, in their order."""
    for run in runs:
        if run.version is None or 400 <= run.status < 500:
            continue
        at = [each.at for each in run.exchanges]
        num_rows = [each.num_rows for each in run.exchanges]
        times = [each.event_time for each in run.exchanges]
        day = min(at) // _DAY_S
        usual = day == max(at) // _DAY_S and times.count(None) == len(at) and 0 not in num_rows
        if usual:  # all have rows, and are about the moment at which they came
            yield _block(run.version, run, day, at, num_rows, None)
        else:
            yield from _by_day(run.version, run)


def _by_day(version: LoadedVersion, run: Run) -> Iterator[Block]:
    """Those that have rows, by the day at which they happened."""
    known = [each for each in run.exchanges if each.num_rows]
    for day, kin in groupby(known, key=lambda each: _happened(each) // _DAY_S):
        part = run._replace(exchanges=list(kin))
        at = [each.at for each in part.exchanges]
        happened = [_happened(each) for each in part.exchanges]
        num_rows = [each.num_rows for each in part.exchanges]
        yield _block(version, part, day, at, num_rows, None if happened == at else happened)


def _block(
    version: LoadedVersion,
    run: Run,
    day: float,
    at: list[float],
    num_rows: list[int],
    happened: list[float] | None,
) -> Block:
    answered = run.status < 400
    shares = _joined(run.exchanges) if answered else []
    score = version.bundle.postprocessing.score
    return Block(
        version=version,
        arm=run.arm,
        day=_EPOCH + timedelta(days=day),
        answered=answered,
        ids=[each.id for each in run.exchanges],
        num_rows=array("i", num_rows),
        at=array("d", at),
        event_times=None if happened is None else array("d", happened),
        latencies_s=array("d", [each.latency_s for each in run.exchanges]),
        columns=[share.columns for share in shares],
        scores=[share[score] for share in shares],
        size=sum(num_rows),
        num_values=0 if version.form.is_flat else _num_values(shares),
    )


def _num_values(shares: Iterable[Share]) -> int:
    return sum(column.size for share in shares for column in share.columns.values())


def _joined(kin: Sequence[Exchange]) -> list[Share]:
    """Where their rows lie: neighbours of one batch together."""
    shares = [each.outputs for each in kin]
    if set(map(type, shares)) != {Share}:
        shares = [_share(each) for each in kin]
    found: list[Share] = []
    batch, start, end = None, 0, 0
    for share in cast("list[Share]", shares):
        if share.batch is not batch or share.start != end:
            if batch is not None:
                found.append(Share(batch, start, end))
            batch, start = share.batch, share.start
        end = share.end
    if batch is not None:
        found.append(Share(batch, start, end))
    return found


def _share(exchange: Exchange) -> Share:
    """The rows of an exchange that may have run alone."""
    outputs, columns = exchange.outputs, exchange.columns
    if isinstance(outputs, Share):
        return outputs
    assert outputs is not None, "a version answered"
    assert columns is not None, "only a batch takes them over"
    return Share(Batch(columns, outputs), 0, exchange.num_rows)


def _happened(exchange: Exchange) -> float:
    return exchange.at if exchange.event_time is None else exchange.event_time.timestamp()
