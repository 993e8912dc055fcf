"""One ledger for tracking, registry, lineage and audit.

ledger = open_ledger("sqlite:///.raymlops/ledger.db")
run = ledger.runs.start(kind="train", model="flights", ...)
ledger.runs.log(run.id, {"log_loss": 0.43}, step=1)
ledger.runs.best("log_loss", minimize=True, where="params.epochs >= 3")
ledger.registry.resolve("flights@champion")
why(ledger, request_id)
"""

from raymlops.ledger.audit import Audit
from raymlops.ledger.diff import Difference, diff
from raymlops.ledger.files import absolute_url, sqlite_url
from raymlops.ledger.joins import JoinPolicy
from raymlops.ledger.ledger import Ledger
from raymlops.ledger.lineage import (
    Ancestors,
    Descendants,
    Lineage,
    Reign,
    at,
    datasets_of,
    lineage_of,
    versions_from,
    why,
)
from raymlops.ledger.packed import PackedPredictions
from raymlops.ledger.reach import open_ledger
from raymlops.ledger.records import (
    AliasMove,
    Artifact,
    Check,
    Code,
    ConceptAlarm,
    Dataset,
    Decision,
    Drift,
    Labels,
    Metric,
    ModelVersion,
    Outcome,
    Outcomes,
    Owner,
    Pane,
    Performance,
    Prediction,
    Release,
    Run,
    RunStatus,
    SlicePerformance,
    class_labels,
    number_labels,
)
from raymlops.ledger.taps import TapMessage
from raymlops.ledger.tracking.comparison import Comparison
from raymlops.ledger.tracking.logger import LogPolicy, MetricLogger
from raymlops.ledger.version import Bump, Version

__all__ = [
    "AliasMove",
    "Ancestors",
    "Artifact",
    "Audit",
    "Bump",
    "Check",
    "Code",
    "Comparison",
    "ConceptAlarm",
    "Dataset",
    "Decision",
    "Descendants",
    "Difference",
    "Drift",
    "JoinPolicy",
    "Labels",
    "Ledger",
    "Lineage",
    "LogPolicy",
    "Metric",
    "MetricLogger",
    "ModelVersion",
    "Outcome",
    "Outcomes",
    "Owner",
    "PackedPredictions",
    "Pane",
    "Performance",
    "Prediction",
    "Reign",
    "Release",
    "Run",
    "RunStatus",
    "SlicePerformance",
    "TapMessage",
    "Version",
    "absolute_url",
    "at",
    "class_labels",
    "datasets_of",
    "diff",
    "lineage_of",
    "number_labels",
    "open_ledger",
    "sqlite_url",
    "versions_from",
    "why",
]
