"""One process, the workers of one tensor group, or those of a server: no replicas to agree with."""

from __future__ import annotations

from raymlops.train.layouts.base import Whole


class Alone(Whole):
    """Nothing is sent but what the layers themselves send."""
