"""What many processes counted, put together: cumulative snapshots, so that one may get lost.

A snapshot holds all that its source ever counted. One that comes twice, or never, changes
nothing: the next one says it all. Counts of a source that has gone stay, its gauges go; and so it
is with a series that a source tells no more, such as one of a version that was let go of.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from raymlops.telemetry.catalogue import CATALOGUE

_QUIET_AFTER_S = 15.0
_MAX_QUIET = 64
# Of the versions of about a hundred releases; who scrapes has read those before long ago.
_MAX_GONE = 2048


class Series(NamedTuple):
    """One series of a metric in the catalogue, its labels in the metric's order.

    `value` is a count, a gauge, or the sum of a histogram in integers of its resolution; `buckets`
    has a count for each bound and one above the last.
    """

    metric: str
    labels: tuple[str, ...]
    value: float
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that `source`, a process of its own name in each life, has counted so far."""

    source: str
    sequence: int
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True)
class Told:
    """All that was gathered: the newest snapshot of each source, what those counted that are gone,
    and the last sequence of each of these."""

    newest: tuple[Snapshot, ...]
    gone: tuple[Series, ...]
    left: Mapping[str, int]


class Gathered:
    """The newest snapshot of each source, and what sources counted that are gone.

    Of one that was taken for gone and comes back, what it counted meanwhile is left out.
    """

    def __init__(
        self,
        *,
        quiet_after_s: float = _QUIET_AFTER_S,
        max_quiet: int = _MAX_QUIET,
        max_gone: int = _MAX_GONE,
    ) -> None:
        self._quiet_after_s = quiet_after_s
        self._max_quiet = max_quiet
        self._max_gone = max_gone
        self._newest: OrderedDict[str, tuple[float, Snapshot]] = OrderedDict()
        self._gone: tuple[Series, ...] = ()
        # The last sequence of each source in that sum; ten thousand take 1.4 MB.
        self._left: dict[str, int] = {}

    def told(self) -> Told:
        """Everything that `series` tells of, for `recall` in another life."""
        newest = tuple(snapshot for _, snapshot in self._newest.values())
        return Told(newest=newest, gone=self._gone, left=dict(self._left))

    def recall(self, told: Told) -> None:
        """Goes on where `told` was gathered. Its sources are silent until they are heard again.

        Series that the catalogue has no more, or otherwise, are left out.
        """
        self._gone = _of_catalogue(told.gone)
        self._left = dict(told.left)
        for each in told.newest:
            known = replace(each, series=_of_catalogue(each.series))
            self._newest[each.source] = (-math.inf, known)

    def put(self, snapshot: Snapshot, *, now_s: float) -> None:
        """Takes a snapshot in; one that a newer of its source has overtaken is none."""
        source = snapshot.source
        if self._last_sequence(source) >= snapshot.sequence:
            return
        if self._left.pop(source, None) is not None:
            self._gone = merge((*self._gone, *_negative(_counts(snapshot.series))))
        if source in self._newest:
            self._keep(_without(self._newest[source][1].series, snapshot.series))
        self._newest[source] = (now_s, snapshot)
        self._newest.move_to_end(source)
        self._forget(now_s)

    def num_sources(self, *, now_s: float) -> int:
        return sum(self._is_live(at_s, now_s) for at_s, _ in self._newest.values())

    def series(self, *, now_s: float) -> tuple[Series, ...]:
        """The sum of all sources; gauges are those of the living ones."""
        parts = [self._gone]
        for at_s, snapshot in self._newest.values():
            live = self._is_live(at_s, now_s)
            parts.append(snapshot.series if live else _counts(snapshot.series))
        return merge(series for part in parts for series in part)

    def _forget(self, now_s: float) -> None:
        """Adds up what too many sources that fell silent have left behind, the oldest first."""
        quiet = [name for name, (at_s, _) in self._newest.items() if not self._is_live(at_s, now_s)]
        for name in quiet[: max(0, len(quiet) - self._max_quiet)]:
            _, snapshot = self._newest.pop(name)
            self._keep(snapshot.series)
            self._left[name] = snapshot.sequence

    def _keep(self, series: Iterable[Series]) -> None:
        """Adds what was counted to what is gone. Beyond so many series the oldest are dropped as a
        whole, which Prometheus takes for their end: of one that is still counted elsewhere, the
        sum would fall."""
        if counts := _counts(series):
            self._gone = merge((*self._gone, *counts))
        if (excess := len(self._gone) - self._max_gone) > 0:
            told = {each[:2] for _, snapshot in self._newest.values() for each in snapshot.series}
            doomed = [each for each in self._gone if each[:2] not in told][:excess]
            self._gone = _without(self._gone, doomed)

    def _last_sequence(self, source: str) -> int:
        """That of the newest snapshot that was taken in, -1 before the first."""
        if source in self._newest:
            return self._newest[source][1].sequence
        return self._left.get(source, -1)

    def _is_live(self, at_s: float, now_s: float) -> bool:
        return now_s - at_s < self._quiet_after_s


def merge(series: Iterable[Series]) -> tuple[Series, ...]:
    """One series for each metric and labels: counts add up, gauges as the catalogue says."""
    merged: dict[tuple[str, tuple[str, ...]], Series] = {}
    for each in series:
        key = (each.metric, each.labels)
        merged[key] = _both(merged[key], each) if key in merged else each
    return tuple(merged.values())


def _both(first: Series, second: Series) -> Series:
    if CATALOGUE[first.metric].merge == "max":
        return first if first.value >= second.value else second
    buckets = tuple(a + b for a, b in zip(first.buckets, second.buckets, strict=True))
    return first._replace(value=first.value + second.value, buckets=buckets)


def _of_catalogue(series: Iterable[Series]) -> tuple[Series, ...]:
    """Those that can be added to what is counted today."""
    return tuple(
        each
        for each in series
        if (metric := CATALOGUE.get(each.metric)) is not None
        and len(each.labels) == len(metric.labels)
        and len(each.buckets) == (len(metric.bounds) + 1 if metric.bounds else 0)
    )


def _without(series: Iterable[Series], others: Iterable[Series]) -> tuple[Series, ...]:
    """Those of which the others hold none of the same metric and labels."""
    known = {each[:2] for each in others}
    return tuple(each for each in series if each[:2] not in known)


def _counts(series: Iterable[Series]) -> tuple[Series, ...]:
    return tuple(each for each in series if CATALOGUE[each.metric].kind != "gauge")


def _negative(counts: Iterable[Series]) -> tuple[Series, ...]:
    """What takes `counts` away from a sum that holds them, too."""
    return tuple(
        each._replace(value=-each.value, buckets=tuple(-number for number in each.buckets))
        for each in counts
    )
