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
from raymlops.monitor.judging import ALL, WindowReport, read_reports, unjudged_rows
from raymlops.monitor.late import late_in, late_rows
from raymlops.monitor.performance import (
    Estimate,
    difference,
    log_losses,
    loss_difference,
    measure,
    paired_difference,
    scored,
)
from raymlops.monitor.references import restore_reference, roll_reference
from raymlops.monitor.report import Period, write_report
from raymlops.monitor.windows import Window, WindowPolicy, due, window_of, windows

__all__ = [
    "ALL",
    "ConceptPolicy",
    "DriftMonitor",
    "DriftPolicy",
    "Estimate",
    "FeatureDrift",
    "FeaturePolicy",
    "MonitorStatus",
    "Period",
    "Window",
    "WindowPolicy",
    "WindowReport",
    "compare",
    "difference",
    "due",
    "holm",
    "late_in",
    "late_rows",
    "log_losses",
    "loss_difference",
    "measure",
    "paired_difference",
    "read_reports",
    "restore_reference",
    "roll_reference",
    "scored",
    "unjudged_rows",
    "window_of",
    "windows",
    "write_report",
]
