"""Every metric of raymlops, declared once: whatever is counted, scraped or drawn is named here.

Prometheus' conventions are checked as a metric is declared: prefix, base units, `_total`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max"]

OTHER = "other"
"""The label under which is counted what came after the last series there is room for."""

_NAME = re.compile(r"raymlops_[a-z][a-z0-9_]*[a-z0-9]")
_NO_BASE_UNITS = (
    "_ms",
    "_us",
    "_ns",
    "_milliseconds",
    "_minutes",
    "_hours",
    "_mb",
    "_kb",
    "_percent",
)
_MODEL = ("model",)
_ARM = ("model", "version", "arm")

# A request of ours takes between half a millisecond and some seconds.
LATENCY_BOUNDS_S = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
ROWS_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric; every series of it has a value for each of `labels`.

    `resolution` is what an integer of its sum is worth in the metric's unit, and `merge` how the
    gauges of several processes become one.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = _MODEL
    bounds: tuple[float, ...] = ()
    resolution: float = 1.0
    merge: Merge = "sum"

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"metric '{self.name}' is not raymlops_ and small letters")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"metric '{self.name}' is a {self.kind}: counters end in _total")
        if self.name.removesuffix("_total").endswith(_NO_BASE_UNITS):
            raise ValueError(f"metric '{self.name}' is not in base units: seconds, bytes, ratios")
        if (self.kind == "histogram") != bool(self.bounds):
            raise ValueError(f"metric '{self.name}' is a {self.kind} with bounds {self.bounds}")
        if list(self.bounds) != sorted(set(self.bounds)):
            raise ValueError(f"metric '{self.name}' has bounds {self.bounds}, which do not rise")


def _latency(name: str, help: str) -> Metric:
    return Metric(
        name=name,
        kind="histogram",
        help=help,
        labels=_ARM,
        bounds=LATENCY_BOUNDS_S,
        resolution=1e-9,
    )


REQUESTS = Metric(
    name="raymlops_requests_total",
    kind="counter",
    help="Requests to infer, and all that were not let in: ok, refused (the client's fault) or "
    "failed (ours, overload included).",
    labels=(*_ARM, "outcome"),
)
REQUEST_ERRORS = Metric(
    name="raymlops_request_errors_total",
    kind="counter",
    help="Requests that were refused or failed, by what was wrong.",
    labels=(*_ARM, "kind"),
)
REQUEST_ROWS = Metric(
    name="raymlops_request_rows_total",
    kind="counter",
    help="Rows of answered requests.",
    labels=_ARM,
)
DURATION = _latency(
    "raymlops_request_duration_seconds",
    "From the first byte of an answered request to the last of its answer.",
)
QUEUE = _latency(
    "raymlops_request_queue_seconds", "What an answered request waited for a free engine."
)
BATCH = _latency(
    "raymlops_request_batch_seconds",
    "What it took to put an answered request's batch together, and its answer out of it.",
)
ENGINE = _latency(
    "raymlops_request_engine_seconds", "What the engine took for an answered request's batch."
)
IN_FLIGHT = Metric(
    name="raymlops_requests_in_flight", kind="gauge", help="Requests that wait for their answer."
)
BATCH_ROWS = Metric(
    name="raymlops_batch_rows",
    kind="histogram",
    help="Rows of a batch that the engine ran.",
    labels=("model", "version"),
    bounds=ROWS_BOUNDS,
)
QUEUED_ROWS = Metric(
    name="raymlops_queue_rows",
    kind="gauge",
    help="Rows that wait for a free engine.",
    labels=("model", "version"),
)
CACHE_LOOKUPS = Metric(
    name="raymlops_cache_lookups_total",
    kind="counter",
    help="Requests that asked the prediction cache: a hit, a miss, or one that joined a miss.",
    labels=("model", "outcome"),
)
MODEL_LOAD = Metric(
    name="raymlops_model_load_seconds",
    kind="gauge",
    help="What it took to load, verify and warm a version; the slowest replica's.",
    labels=("model", "version"),
    merge="max",
)
TAP_DROPPED_ROWS = Metric(
    name="raymlops_tap_dropped_rows_total",
    kind="counter",
    help="Rows that were answered, but never counted by the monitor.",
)
LOG_LINES = Metric(
    name="raymlops_log_lines_total",
    kind="counter",
    help="Lines for the request log: written, left out by its sampling rule, or dropped.",
    labels=("model", "result"),
)
DRIFT_STATISTIC = Metric(
    name="raymlops_drift_statistic",
    kind="gauge",
    help="Distance of a feature from its reference in the newest window, by the test of it.",
    labels=("model", "version", "feature", "test"),
    merge="max",
)
DRIFT_P_VALUE = Metric(
    name="raymlops_drift_p_value",
    kind="gauge",
    help="Adjusted p-value of that distance.",
    labels=("model", "version", "feature", "test"),
    merge="max",
)
DRIFT_THRESHOLD = Metric(
    name="raymlops_drift_threshold",
    kind="gauge",
    help="The distance above which a feature may count as drifted.",
    labels=("model", "version", "feature", "test"),
    merge="max",
)
DRIFTED_FEATURES = Metric(
    name="raymlops_drift_features",
    kind="gauge",
    help="Features that were judged in the newest window, by verdict: drifted or steady.",
    labels=("model", "version", "verdict"),
    merge="max",
)
LATE_ROWS = Metric(
    name="raymlops_late_rows",
    kind="gauge",
    help="Rows of the newest window that came after drift was looked for in it.",
    labels=("model", "version"),
    merge="max",
)
LABELS = Metric(
    name="raymlops_labels_total",
    kind="counter",
    help="Labels that were told, by what became of them: joined, waiting (for their request), "
    "repeated, or, and nothing is judged by these, contradicted, misfit, too_late, overflow or "
    "expired.",
    labels=("model", "fate"),
)
PERFORMANCE = Metric(
    name="raymlops_performance",
    kind="gauge",
    help="A metric of labelled predictions in the newest window; low and high bound it by 95 %.",
    labels=(*_ARM, "metric", "bound"),
    merge="max",
)
RETRAINS = Metric(
    name="raymlops_retrains_total",
    kind="counter",
    help="Triggers, by what came of them: retrain or suppressed.",
    labels=("model", "outcome"),
)
GATES = Metric(
    name="raymlops_gates_total",
    kind="counter",
    help="Challengers that were judged, by verdict: passed or refused.",
    labels=("model", "outcome"),
)
RELEASES = Metric(
    name="raymlops_releases_total",
    kind="counter",
    help="Releases that are over, by how they ended: promoted or rolled_back.",
    labels=("model", "status"),
)
RELEASES_RUNNING = Metric(
    name="raymlops_releases_running",
    kind="gauge",
    help="Releases that are under way: 0 or 1.",
    merge="max",
)
VERSION_INFO = Metric(
    name="raymlops_version_info",
    kind="gauge",
    help="1 for the version an alias of the model names.",
    labels=("model", "alias", "version"),
    merge="max",
)
TRAINING_STEP = Metric(
    name="raymlops_training_step",
    kind="gauge",
    help="The newest step that the newest running training of a model logged.",
    merge="max",
)
TRAINING_THROUGHPUT = Metric(
    name="raymlops_training_rows_per_second",
    kind="gauge",
    help="Rows a second at that step, of all workers together.",
    merge="max",
)
RUNS = Metric(
    name="raymlops_runs_running",
    kind="gauge",
    help="Runs that are under way, by kind.",
    labels=("model", "kind"),
    merge="max",
)
OPEN_ALERTS = Metric(
    name="raymlops_alerts_open",
    kind="gauge",
    help="Alerts that have not been resolved.",
    labels=("model", "severity"),
    merge="max",
)
SOURCES = Metric(
    name="raymlops_exporter_sources",
    kind="gauge",
    help="Processes whose counts the exporter gathers.",
    labels=(),
)
LEDGER_UP = Metric(
    name="raymlops_ledger_up",
    kind="gauge",
    help="1 when the exporter could read the ledger for this scrape, else 0.",
    labels=(),
)

CATALOGUE: Mapping[str, Metric] = {
    value.name: value for value in tuple(globals().values()) if isinstance(value, Metric)
}
"""By name, in the order of their declaration."""

FROM_RAY: Mapping[str, str] = {
    "ray_node_cpu_utilization": "CPU of a node in use, in percent.",
    "ray_node_mem_used": "Bytes of memory of a node in use.",
    "ray_node_mem_total": "Bytes of memory of a node.",
    "ray_node_gpus_utilization": "Of a GPU, in percent; only where there is one.",
    "ray_node_gram_used": "Megabytes of a GPU's memory in use; only where there is one.",
    "ray_component_cpu_percentage": "CPU of Ray's and our processes, by component, in percent.",
    "ray_component_rss_mb": "Resident megabytes of these processes.",
    "ray_actors": "Actors by state.",
    "ray_serve_deployment_replica_healthy": "1 for each healthy replica of a deployment.",
}
"""What Ray exports itself and our dashboards and rules rely on; raymlops repeats none of it."""
