"""Figures of the report, each the text of an SVG."""

from raymlops.monitor.plots.curves import Curve, Mark, Panel, lines, timeline
from raymlops.monitor.plots.heat import HeatColumn, heat_map
from raymlops.monitor.plots.latency import latency_histogram, milliseconds

__all__ = [
    "Curve",
    "HeatColumn",
    "Mark",
    "Panel",
    "heat_map",
    "latency_histogram",
    "lines",
    "milliseconds",
    "timeline",
]
