"""JSON logs: a line a request, by a rule of sampling, and a line a decision."""

from raymlops.telemetry.logs.lines import LineWriter
from raymlops.telemetry.logs.sampling import LogPolicy, Reason, reason_to_log
from raymlops.telemetry.logs.shown import shown_inputs

__all__ = ["LineWriter", "LogPolicy", "Reason", "reason_to_log", "shown_inputs"]
