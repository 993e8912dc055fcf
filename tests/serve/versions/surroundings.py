"""What is around arms: the tables they follow, the processes of their engines."""

from __future__ import annotations

import multiprocessing

from raymlops.serve import Arm, TrafficTable
from tests.serve.conftest import MODEL


def table(*versions: str) -> TrafficTable:
    arms = tuple(
        Arm(name=version, version=version, share=1 / len(versions)) for version in versions
    )
    return TrafficTable(model=MODEL, arms=arms)


def engines() -> list[multiprocessing.process.BaseProcess]:
    """The processes of engines that run isolated."""
    return [each for each in multiprocessing.active_children() if each.name == "engine"]
