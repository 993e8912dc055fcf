"""Series as the families that prometheus_client writes down, in either of its formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, groupby

from prometheus_client import Metric as Family
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from raymlops.telemetry.catalogue import CATALOGUE, Metric
from raymlops.telemetry.snapshot import Series


def families(series: Iterable[Series]) -> Iterator[Family]:
    """A family for each metric that has any series, in the catalogue's order."""
    order = {name: index for index, name in enumerate(CATALOGUE)}
    by_metric = sorted(series, key=lambda each: (order[each.metric], each.labels))
    for name, group in groupby(by_metric, key=lambda each: each.metric):
        yield _family(CATALOGUE[name], group)


def _family(metric: Metric, series: Iterable[Series]) -> Family:
    if metric.kind == "histogram":
        return _histogram(metric, series)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for each in series:
        family.add_metric(each.labels, each.value * metric.resolution)
    return family


def _histogram(metric: Metric, series: Iterable[Series]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*map(repr, metric.bounds), "+Inf"]
    for each in series:
        buckets = list(zip(bounds, map(float, accumulate(each.buckets)), strict=True))
        family.add_metric(each.labels, buckets, each.value * metric.resolution)
    return family
