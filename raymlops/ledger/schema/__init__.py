"""The tables: one schema for tracking, registry, lineage and audit.

    texts ◄── runs ──► params, metrics,   predictions ──► model_versions
                │ ▲    tags, artifacts                           ▲
     run_inputs ┘ └── model_versions ◄── alias_moves ──► decisions ◄── trusted
        │                                releases ─────►    ▲
     datasets, checks                    traffic ───────────┘

Decisions are chained by digests, see `audit`, and the rows that matter most carry the digest of
one, see `seals`. Rows are added, never rewritten; what changes in place is the end and the
heartbeat of a run, its tags, and how a release stands. Bulky text that many rows share
(configuration, environment, signatures) lies once in `texts` under its digest. `fences` holds the
largest token written under each lock, `requests` what was answered to whom may ask again.

A change here is a new SCHEMA_VERSION with a step in `migrations`.
"""

from raymlops.ledger.schema.answers import (
    join_counts,
    joins,
    labels,
    panes,
    predictions,
    tap_offsets,
    waiting_labels,
)
from raymlops.ledger.schema.base import SCHEMA_VERSION, meta, metadata, texts
from raymlops.ledger.schema.data import checks, datasets
from raymlops.ledger.schema.tracking import artifacts, metrics, params, run_inputs, runs, tags
from raymlops.ledger.schema.upkeep import fences, mirrored, requests
from raymlops.ledger.schema.verdicts import (
    concept_alarms,
    considered,
    drift,
    performance,
    slice_performance,
    watches,
)
from raymlops.ledger.schema.versions import (
    alias_moves,
    decisions,
    model_versions,
    releases,
    traffic,
    trusted,
)

__all__ = [
    "SCHEMA_VERSION",
    "alias_moves",
    "artifacts",
    "checks",
    "concept_alarms",
    "considered",
    "datasets",
    "decisions",
    "drift",
    "fences",
    "join_counts",
    "joins",
    "labels",
    "meta",
    "metadata",
    "metrics",
    "mirrored",
    "model_versions",
    "panes",
    "params",
    "performance",
    "predictions",
    "releases",
    "requests",
    "run_inputs",
    "runs",
    "slice_performance",
    "tags",
    "tap_offsets",
    "texts",
    "traffic",
    "trusted",
    "waiting_labels",
    "watches",
]
