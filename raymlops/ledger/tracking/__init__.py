"""What was trained: runs, what they were given and gave, and the search over them."""

from raymlops.ledger.tracking.comparison import Comparison
from raymlops.ledger.tracking.logger import LogPolicy, MetricLogger
from raymlops.ledger.tracking.runs import Runs

__all__ = ["Comparison", "LogPolicy", "MetricLogger", "Runs"]
