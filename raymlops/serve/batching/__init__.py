"""Batching: when requests run, and with whom."""

from raymlops.serve.batching.batcher import Batcher
from raymlops.serve.batching.outputs import Outputs, Run
from raymlops.serve.batching.policy import Arrivals, BatchPolicy, close_after_s
from raymlops.serve.batching.queue import Done, Waiting, WaitingQueue
from raymlops.serve.batching.speed import EngineSpeed
from raymlops.serve.batching.times import BatchSizes, Times
from raymlops.serve.batching.warming import warm_up

__all__ = [
    "Arrivals",
    "BatchPolicy",
    "BatchSizes",
    "Batcher",
    "Done",
    "EngineSpeed",
    "Outputs",
    "Run",
    "Times",
    "Waiting",
    "WaitingQueue",
    "close_after_s",
    "warm_up",
]
