"""Training: one spec, run under a parallel plan, recorded as a run.

    result = Trainer(spec, plan=ParallelPlan(data=2, tensor=2)).fit()

A model of a table goes from dataset to bundle in `raymlops.train.tabular`.
"""

from raymlops.train.communication import CommunicationSpec, NcclSpec, SocketSpec
from raymlops.train.keras import KerasSpec
from raymlops.train.plan import ParallelPlan
from raymlops.train.spec import (
    CheckpointPolicy,
    OptimizerSpec,
    ScheduleSpec,
    StoppingPolicy,
    TensorSpec,
    TrainSpec,
)
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.loading import LoadingSpec
from raymlops.train.tabular.quality import (
    ClassQuality,
    EventQuality,
    NumberQuality,
    Quality,
    calibration_error,
    judge,
    judge_classes,
    judge_numbers,
)
from raymlops.train.tabular.spec import TabularSpec
from raymlops.train.trainer import Trainer, TrainResult

__all__ = [
    "CheckpointPolicy",
    "ClassQuality",
    "CommunicationSpec",
    "EventQuality",
    "Factory",
    "KerasSpec",
    "LoadingSpec",
    "NcclSpec",
    "NumberQuality",
    "OptimizerSpec",
    "ParallelPlan",
    "Quality",
    "ScheduleSpec",
    "SocketSpec",
    "StoppingPolicy",
    "TabularSpec",
    "TensorSpec",
    "TrainResult",
    "TrainSpec",
    "Trainer",
    "calibration_error",
    "judge",
    "judge_classes",
    "judge_numbers",
]
