"""Optimizers that run on the server, where the parameters are."""

from raymlops.train.server.optimizers.adagrad import Adagrad
from raymlops.train.server.optimizers.adam import Adam
from raymlops.train.server.optimizers.adamw import AdamW
from raymlops.train.server.optimizers.base import Optimizer, Rate
from raymlops.train.server.optimizers.momentum import Momentum
from raymlops.train.server.optimizers.sgd import Sgd

__all__ = ["Adagrad", "Adam", "AdamW", "Momentum", "Optimizer", "Rate", "Sgd"]
