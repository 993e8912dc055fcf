"""Watching models in service: drift of their inputs, performance once labels arrive, a report."""

from raymlops.monitor.actor import DriftMonitor, MonitorStatus
from raymlops.monitor.concept import ConceptPolicy
from raymlops.monitor.drift import (
    DriftPolicy,
    FeatureDrift,
    FeaturePolicy,
    compare,
    holm,
)
from raymlops.monitor.intervals import Estimate
from raymlops.monitor.judging import ALL, WindowReport, newest_reports, read_reports, unjudged_rows
from raymlops.monitor.late import late_rows
from raymlops.monitor.losses import (
    HELD_TO,
    LOSSES,
    Loss,
    RowLoss,
    difference,
    loss_of,
    paired_difference,
    row_loss,
)
from raymlops.monitor.measures import log_losses
from raymlops.monitor.performance import measure, scored
from raymlops.monitor.references import restore_reference, roll_reference
from raymlops.monitor.report import Period, write_report
from raymlops.monitor.wild import FarCounts, far_of_arms, far_of_both, held_to
from raymlops.monitor.windows import Window, WindowPolicy, credible_before, due, window_of, windows

__all__ = [
    "ALL",
    "HELD_TO",
    "LOSSES",
    "ConceptPolicy",
    "DriftMonitor",
    "DriftPolicy",
    "Estimate",
    "FarCounts",
    "FeatureDrift",
    "FeaturePolicy",
    "Loss",
    "MonitorStatus",
    "Period",
    "RowLoss",
    "Window",
    "WindowPolicy",
    "WindowReport",
    "compare",
    "credible_before",
    "difference",
    "due",
    "far_of_arms",
    "far_of_both",
    "held_to",
    "holm",
    "late_rows",
    "log_losses",
    "loss_of",
    "measure",
    "newest_reports",
    "paired_difference",
    "read_reports",
    "restore_reference",
    "roll_reference",
    "row_loss",
    "scored",
    "unjudged_rows",
    "window_of",
    "windows",
    "write_report",
]
