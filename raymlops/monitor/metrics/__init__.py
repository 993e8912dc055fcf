"""Metrics for Prometheus: gathered from replicas, read from the ledger, scraped from one place."""

from raymlops.monitor.metrics.exporter import Exporter, ExporterSettings
from raymlops.monitor.metrics.prometheus import PrometheusSettings
from raymlops.monitor.metrics.recorded import recorded_series

__all__ = ["Exporter", "ExporterSettings", "PrometheusSettings", "recorded_series"]
