"""The tap: what was answered becomes counts and predictions for the monitor, which no request
waits for."""

from raymlops.serve.tap.summary import TapSummary

__all__ = ["TapSummary"]
