"""JSON logs: a line a request, by a rule of sampling, and a line a decision."""

from raymlops.telemetry.logs.lines import LineWriter
from raymlops.telemetry.logs.sampling import LogPolicy, Reason, chosen
from raymlops.telemetry.logs.shown import shown_inputs

__all__ = ["LineWriter", "LogPolicy", "Reason", "chosen", "shown_inputs"]
