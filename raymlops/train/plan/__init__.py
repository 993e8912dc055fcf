"""How a training is laid out over workers, whether that can run, and which layout to choose."""

from raymlops.train.plan.plan import AXES, SHARING_ROWS, Axis, ParallelPlan, checked

__all__ = ["AXES", "SHARING_ROWS", "Axis", "ParallelPlan", "checked"]
