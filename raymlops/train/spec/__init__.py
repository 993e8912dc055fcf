"""What to train, whatever the layout; and what the names in a spec stand for."""

from raymlops.train.spec.spec import (
    LOSSES,
    CheckpointPolicy,
    DeviceName,
    OptimizerSpec,
    PipelineSpec,
    Precision,
    ScheduleSpec,
    Slice,
    StoppingPolicy,
    TensorSpec,
    TrainSpec,
)

__all__ = [
    "LOSSES",
    "CheckpointPolicy",
    "DeviceName",
    "OptimizerSpec",
    "PipelineSpec",
    "Precision",
    "ScheduleSpec",
    "Slice",
    "StoppingPolicy",
    "TensorSpec",
    "TrainSpec",
]
