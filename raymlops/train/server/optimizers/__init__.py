"""Optimizers that run on the server, where the parameters are."""

from raymlops.train.server.optimizers.adagrad import Adagrad
from raymlops.train.server.optimizers.adam import Adam
from raymlops.train.server.optimizers.base import Optimizer, Rate
from raymlops.train.server.optimizers.momentum import Momentum
from raymlops.train.server.optimizers.sgd import Sgd

__all__ = ["Adagrad", "Adam", "Momentum", "Optimizer", "Rate", "Sgd"]
