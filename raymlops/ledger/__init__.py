"""One ledger for tracking, registry, lineage and audit.

ledger = Ledger("sqlite:///.raymlops/ledger.db")
run = ledger.runs.start(kind="train", model="flights", ...)
ledger.runs.log(run.id, {"log_loss": 0.43}, step=1)
ledger.registry.resolve("flights@champion")
why(ledger, request_id)
"""

from raymlops.ledger.audit import Audit
from raymlops.ledger.ledger import Ledger
from raymlops.ledger.lineage import Lineage, Reign, at, why
from raymlops.ledger.records import (
    AliasMove,
    Check,
    Code,
    Dataset,
    Decision,
    Drift,
    Labels,
    Metric,
    ModelVersion,
    Outcome,
    Pane,
    Performance,
    Prediction,
    Release,
    Run,
)
from raymlops.ledger.version import Bump, Version

__all__ = [
    "AliasMove",
    "Audit",
    "Bump",
    "Check",
    "Code",
    "Dataset",
    "Decision",
    "Drift",
    "Labels",
    "Ledger",
    "Lineage",
    "Metric",
    "ModelVersion",
    "Outcome",
    "Pane",
    "Performance",
    "Prediction",
    "Reign",
    "Release",
    "Run",
    "Version",
    "at",
    "why",
]
