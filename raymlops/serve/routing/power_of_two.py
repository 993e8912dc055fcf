"""Power of two choices (Mitzenmacher, 2001): the less loaded of two replicas drawn by chance.

The longest of n queues grows with log log n instead of log n / log log n of one choice, and
routers that know loads only roughly do not all run to the same replica.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from raymlops.serve.routing.base import ReplicaLoad, RoutingPolicy


class PowerOfTwo(RoutingPolicy):
    """Draws with `random_source`; two routers should not share a seed."""

    def __init__(self, random_source: random.Random | None = None) -> None:
        self._random = random_source or random.Random()

    def choose(self, replicas: Sequence[ReplicaLoad], key: str) -> ReplicaLoad:
        drawn = self._random.sample(replicas, min(2, len(replicas)))
        return min(drawn, key=lambda each: each.pressure)
