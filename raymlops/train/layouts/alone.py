"""One process, or the workers of one tensor group: no replicas to agree with."""

from __future__ import annotations

from raymlops.train.layouts.base import Whole


class Alone(Whole):
    """Nothing is sent but what the layers themselves send."""
