"""A model's history as one page: facts, figures and tables of what the ledger holds."""

from raymlops.monitor.report.page import write_report
from raymlops.monitor.report.period import Period

__all__ = ["Period", "write_report"]
