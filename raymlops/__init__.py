"""raymlops: a self-operating model lifecycle on a plain Ray cluster.

    from raymlops import Workspace, operate

    with Workspace.open("configs/flights.yaml") as workspace, workspace.connect():
        training = operate.train(workspace, operate.add_data(workspace, "flights.parquet"))
        version = operate.register(workspace, training)

Names load when they are used, so that importing raymlops costs milliseconds.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raymlops import operate
    from raymlops.ledger import Ledger, at, why
    from raymlops.models import Bundle
    from raymlops.monitor import write_report
    from raymlops.operate import Operator, Workspace
    from raymlops.serve import Client
    from raymlops.storage import Store
    from raymlops.train import Factory, KerasSpec, ParallelPlan, Trainer, TrainSpec

    __version__: str

__all__ = [
    "Bundle",
    "Client",
    "Factory",
    "KerasSpec",
    "Ledger",
    "Operator",
    "ParallelPlan",
    "Store",
    "TrainSpec",
    "Trainer",
    "Workspace",
    "at",
    "operate",
    "why",
    "write_report",
]

_HOUSE_OF = {
    "Bundle": "models",
    "Client": "serve",
    "Factory": "train",
    "KerasSpec": "train",
    "Ledger": "ledger",
    "Operator": "operate",
    "ParallelPlan": "train",
    "Store": "storage",
    "TrainSpec": "train",
    "Trainer": "train",
    "Workspace": "operate",
    "at": "ledger",
    "why": "ledger",
    "write_report": "monitor",
}


def __getattr__(name: str) -> Any:
    if name == "operate":
        return import_module("raymlops.operate")
    if name == "__version__":
        return import_module("importlib.metadata").version(__name__)
    if name not in _HOUSE_OF:
        told = f"module 'raymlops' has no attribute '{name}'"
        raise AttributeError(told, name=name, obj=sys.modules[__name__])  # Python adds what is near
    return getattr(import_module(f"raymlops.{_HOUSE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
