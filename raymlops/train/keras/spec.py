"""What to train with TensorFlow: a Keras model, its data, loss, optimizer, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from raymlops.config import build, file_layer
from raymlops.ledger.names import check_name
from raymlops.train.checks import require_counts, require_known, require_positive, require_types
from raymlops.train.spec import (
    LOSSES,
    CheckpointPolicy,
    DeviceName,
    OptimizerSpec,
    StoppingPolicy,
)
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.framework import framework_of

LoopName: TypeAlias = Literal["custom", "fit"]

_MAX_SEED = 2**32
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


@dataclass(frozen=True, kw_only=True)
class KerasSpec:
    """A training of a Keras model, the same on any number of workers.

    `model` makes an uncompiled model that knows its input shapes. `data` makes a `Source` or a
    pair of them, to train and to validate on; the last column holds the targets, those before are
    the model's inputs. `loss` is cross_entropy (of logits and classes), binary_cross_entropy (of
    logits), mse, or a factory of a Keras loss. `optimizer` is one of Keras's by name, with its
    arguments, or "module:function", which takes those and `learning_rate`. `batch_size` counts rows
    of all workers at one step; `epochs` and `max_steps` end it, whichever is first. `clip_norm`
    bounds the norm of the gradient of the whole batch.

    `device` is cpu, or cuda, a GPU for each worker.

    `loop` is "custom", raymlops' own steps over Keras 3, or "fit", the `fit` of tf_keras (Keras
    2), for what exists there alone. Write factories with `tensorflow.keras`, which is the one in
    the workers of "custom" and the other in those of "fit".
    """

    model: Factory
    data: Factory
    name: str = "model"
    loss: str | Factory = "cross_entropy"
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    batch_size: int = 64
    epochs: int = 1
    max_steps: int | None = None
    seed: int = 0
    device: DeviceName = "cpu"
    clip_norm: float | None = None
    loop: LoopName = "custom"
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    stopping: StoppingPolicy = field(default_factory=StoppingPolicy)

    def __post_init__(self) -> None:
        require_types(self)
        check_name(self.name, of="model")
        require_counts(self, "batch_size", "epochs", "max_steps")
        if isinstance(self.loss, str):
            require_known("loss", self.loss, LOSSES, own="{call: module:function}")
        if not 0 <= self.seed < _MAX_SEED:
            raise ValueError(f"seed is {self.seed}; Keras takes it from 0 to {_MAX_SEED - 1}")
        if self.clip_norm is not None:
            require_positive("clip_norm", self.clip_norm, ", or null for none")
        if self.device == "xla":
            raise ValueError("device is xla, which only a TrainSpec knows: set it to cpu or cuda")
        if self.stopping.on_nan != "stop":
            raise ValueError(
                f"stopping.on_nan is {self.stopping.on_nan}; Keras applies a step before its loss "
                "is known: set it to stop"
            )
        # Keras 3 would clip the gradient of each worker's rows before it sums them.
        if found := [name for name in _CLIPPING if name in self.optimizer.arguments]:
            raise ValueError(
                f"optimizer.arguments hold {', '.join(found)}; set clip_norm of the spec, which "
                "bounds the gradient of the whole batch"
            )

    @classmethod
    def read(cls, path: Path) -> KerasSpec:
        """The spec in a YAML file.

        Raises:
            ConfigError: lists every key that is unknown, missing or of another type; or it is of
                another framework.
        """
        _, rest = framework_of(file_layer(path), ("keras",))
        return build(cls, rest).settings
