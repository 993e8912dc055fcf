"""Search over train specs."""

from raymlops.tune.spec import TuneSpec

__all__ = ["TuneSpec"]
