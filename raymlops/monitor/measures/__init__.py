"""How good predictions are, by what is predicted: a class, a number or an order."""

from raymlops.monitor.measures.classification import classification, log_losses
from raymlops.monitor.measures.ranking import ranking
from raymlops.monitor.measures.regression import regression

__all__ = ["classification", "log_losses", "ranking", "regression"]
