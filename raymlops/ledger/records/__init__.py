"""What the ledger hands out: frozen rows with aware UTC times."""

from raymlops.ledger.records.answers import (
    CLASSES,
    NUMBERS,
    Labels,
    Outcome,
    Outcomes,
    Pane,
    Prediction,
    class_labels,
    label_values,
    number_labels,
    score_width,
)
from raymlops.ledger.records.data import Check, Dataset
from raymlops.ledger.records.tracking import Artifact, Code, Metric, Owner, Run, RunStatus
from raymlops.ledger.records.verdicts import ConceptAlarm, Drift, Performance, SlicePerformance
from raymlops.ledger.records.versions import (
    AliasMove,
    Decision,
    ModelVersion,
    Release,
    ReleaseStatus,
)

__all__ = [
    "CLASSES",
    "NUMBERS",
    "AliasMove",
    "Artifact",
    "Check",
    "Code",
    "ConceptAlarm",
    "Dataset",
    "Decision",
    "Drift",
    "Labels",
    "Metric",
    "ModelVersion",
    "Outcome",
    "Outcomes",
    "Owner",
    "Pane",
    "Performance",
    "Prediction",
    "Release",
    "ReleaseStatus",
    "Run",
    "RunStatus",
    "SlicePerformance",
    "class_labels",
    "label_values",
    "number_labels",
    "score_width",
]
