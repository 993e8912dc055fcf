"""How good predictions are, by what is predicted: an event, a class, a number or an order."""

from raymlops.monitor.measures.classes import ClassRows, of_class, several
from raymlops.monitor.measures.classification import classification, log_losses
from raymlops.monitor.measures.ranking import orders, ranking
from raymlops.monitor.measures.regression import regression

__all__ = [
    "ClassRows",
    "classification",
    "log_losses",
    "of_class",
    "orders",
    "ranking",
    "regression",
    "several",
]
