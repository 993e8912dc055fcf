"""Training: one spec, run under a parallel plan, recorded as a run, ended in a bundle."""

from raymlops.train.quality import Quality, calibration_error, judge
from raymlops.train.spec import ParallelPlan, TrainSpec

__all__ = ["ParallelPlan", "Quality", "TrainSpec", "calibration_error", "judge"]
