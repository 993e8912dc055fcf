"""A parameter server: sharded, durable, read without tearing, written exactly once."""

from raymlops.train.server.client import Client, Traffic
from raymlops.train.server.optimizers import Adagrad, Adam, AdamW, Momentum, Optimizer, Sgd
from raymlops.train.server.server import ParameterServer
from raymlops.train.server.settings import ServerSettings
from raymlops.train.server.snapshot import Snapshot
from raymlops.train.server.sync import Asynchronous, Stale, Synchronous

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "Asynchronous",
    "Client",
    "Momentum",
    "Optimizer",
    "ParameterServer",
    "ServerSettings",
    "Sgd",
    "Snapshot",
    "Stale",
    "Synchronous",
    "Traffic",
]
