"""How everything of a home is: cluster, models, releases, monitor, last decisions.

It asks the cluster's head, the ledger and the book of alerts, and needs neither Prometheus nor a
connection to Ray: what cannot be asked is named as a problem, and the rest is told.
"""

from raymlops.operate.health.models import ModelHealth
from raymlops.operate.health.overall import Status, status
from raymlops.operate.health.watchers import MonitorHealth

__all__ = ["ModelHealth", "MonitorHealth", "Status", "status"]
