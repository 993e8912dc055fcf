"""What to train, whatever the layout: model, data, loss, optimizer, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from raymlops.config import build, file_layer, merge, override_layer
from raymlops.ledger.names import check_name
from raymlops.train.checks import require_counts, require_known, require_positive, require_types
from raymlops.train.communication import CommunicationSpec
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.framework import framework_of
from raymlops.train.spec.loading import LoadingSpec

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
DeviceName: TypeAlias = Literal["cpu", "cuda", "xla"]
Slice: TypeAlias = Literal["column", "row"]
OnNan: TypeAlias = Literal["stop", "skip"]

LOSSES = ("cross_entropy", "binary_cross_entropy", "mse")
_OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad", "rmsprop")
_SCHEDULES = ("constant", "linear", "cosine")
_RATES = ("lr", "learning_rate")
_MAX_SEED = 2**63


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """`name` is sgd, adam, adamw, adagrad or rmsprop of torch.optim, or "module:function", which
    takes the parameters first; `arguments` are its own (momentum, weight_decay, ...)."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_types(self)
        require_positive("learning_rate", self.learning_rate)
        if ":" not in self.name:
            require_known("optimizer", self.name, _OPTIMIZERS)
        if twice := [name for name in _RATES if name in self.arguments]:
            raise ValueError(
                f"arguments hold {twice[0]} {self.arguments[twice[0]]}, and learning_rate is "
                f"{self.learning_rate}: set the second alone"
            )


def factory_of(spec: OptimizerSpec) -> Factory:
    """What makes an optimizer of a user's own, given the parameters first."""
    return Factory(call=spec.name, arguments={"lr": spec.learning_rate, **spec.arguments})


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """The learning rate by step: up from 0 in `warmup_steps`, then `name` down to `final_share`.

    `name` is constant, linear or cosine, or "module:function" that returns the share of the
    learning rate as a function of the step, counted from 0, and takes neither of the others.
    """

    name: str = "constant"
    warmup_steps: int = 0
    final_share: float = 0.0

    def __post_init__(self) -> None:
        require_types(self)
        if ":" not in self.name:
            require_known("schedule", self.name, _SCHEDULES)
        if self.warmup_steps < 0 or not 0.0 <= self.final_share <= 1.0:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} and final_share {self.final_share}; the "
                "first is not negative, the second within [0, 1]"
            )
        if ":" in self.name and (self.warmup_steps or self.final_share):
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} and final_share {self.final_share}, and "
                f"schedule {self.name} gives the share of every step: leave them out, or let the "
                "function do what they say"
            )


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """How the tensor axis slices layers.

    `slices` maps names of linear layers, with * for any part, to "column" (outputs sliced) or
    "row" (inputs sliced); left empty, they are found in the model. `sequence` slices activations
    between the layers along dimension 1 as well. `loss` keeps logits sliced and computes the
    cross entropy from the slices.
    """

    slices: Mapping[str, Slice] = field(default_factory=dict)
    sequence: bool = False
    loss: bool = False

    def __post_init__(self) -> None:
        require_types(self)


@dataclass(frozen=True, kw_only=True)
class PipelineSpec:
    """Where the pipeline axis cuts the model: `starts` names the first block of each stage, in
    order. Left empty, stages are cut so that the slowest is fastest, as measured on the data.

    With `timeline` the second batch is recorded, and drawn beside the checkpoints: timeline.txt,
    and timeline.json for ui.perfetto.dev.
    """

    starts: tuple[str, ...] = ()
    timeline: bool = False

    def __post_init__(self) -> None:
        require_types(self)


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """A checkpoint every so many steps, 0 for none; the newest `keep` stay.

    An asynchronous one is copied at once and written while training goes on.
    """

    every_steps: int = 0
    keep: int = 2
    asynchronous: bool = True

    def __post_init__(self) -> None:
        require_types(self)
        if self.every_steps < 0 or self.keep < 1:
            raise ValueError(
                f"every_steps is {self.every_steps} and keep {self.keep}; the first is not "
                "negative, the second at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class StoppingPolicy:
    """What ends a training early.

    A loss or gradient that is no number stops it, or its step is skipped; more than `max_skips`
    in a row stop it all the same. With `patience` it stops after so many epochs in which the
    validation loss did not fall.
    """

    on_nan: OnNan = "stop"
    max_skips: int = 25
    patience: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        if self.max_skips < 1 or (self.patience is not None and self.patience < 1):
            raise ValueError(
                f"max_skips is {self.max_skips} and patience {self.patience}; each is at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """A training, the same under every plan.

    `model` makes the module: in every worker, and first where the training is started, without its
    numbers, on torch's device meta. Parts that it puts in evaluation mode stay so. `data` makes a
    `Source` or a pair of them, to train and to validate on; the last column holds the targets,
    those before are the module's arguments. `loss` is cross_entropy, binary_cross_entropy (of
    logits), mse, or a factory of a function of outputs and targets; it returns the sum over all
    targets, whose mean over the global batch is minimised.

    `batch_size` counts rows of all workers at one optimizer step; `accumulation` cuts them to save
    memory, into the same pieces whatever the plan. `epochs` and `max_steps` end it, whichever is
    first. `clip_norm` bounds the norm of all gradients together. `compile` names a torch.compile
    backend.

    Each worker computes on a `device`: its share of the CPUs, a whole GPU (cuda), or a TPU by
    torch_xla (xla). With `cuda_graphs` a GPU replays what the first full batch had it do, and takes
    rows of other shapes one operation at a time.
    """

    model: Factory
    data: Factory
    name: str = "model"
    loss: str | Factory = "cross_entropy"
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    batch_size: int = 64
    accumulation: int = 1
    epochs: int = 1
    max_steps: int | None = None
    seed: int = 0
    loading: LoadingSpec = field(default_factory=LoadingSpec)
    device: DeviceName = "cpu"
    cuda_graphs: bool = False
    precision: Precision = "fp32"
    clip_norm: float | None = None
    activation_checkpointing: bool = False
    compile: str | None = None
    tensor: TensorSpec = field(default_factory=TensorSpec)
    pipeline: PipelineSpec = field(default_factory=PipelineSpec)
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    stopping: StoppingPolicy = field(default_factory=StoppingPolicy)
    communication: CommunicationSpec = field(default_factory=CommunicationSpec)

    def __post_init__(self) -> None:
        require_types(self)
        check_name(self.name, of="model")
        require_counts(self, "batch_size", "accumulation", "epochs", "max_steps")
        if isinstance(self.loss, str):
            require_known("loss", self.loss, LOSSES, own="{call: module:function}")
        if not 0 <= self.seed < _MAX_SEED:
            raise ValueError(f"seed is {self.seed}; it is not negative, and less than 2**63")
        if self.clip_norm is not None:
            require_positive("clip_norm", self.clip_norm, ", or null for none")
        if self.cuda_graphs and self.device != "cuda":
            raise ValueError(
                f"cuda_graphs is true and device {self.device}; set the first to false, or the "
                "second to cuda"
            )
        if self.cuda_graphs and self.activation_checkpointing:
            raise ValueError(
                "cuda_graphs and activation_checkpointing are true; what is computed again reads "
                "the generator of random numbers, which cannot be recorded: set one to false"
            )
        if self.pipeline.timeline and not self.checkpoints.every_steps:
            raise ValueError(
                "pipeline.timeline is true and checkpoints.every_steps 0: a timeline lies beside "
                "checkpoints, so let there be some"
            )
        if self.tensor.loss and self.loss != "cross_entropy":
            raise ValueError(
                f"tensor.loss is set and loss is {self.loss}; slices of logits are understood by "
                "cross_entropy alone"
            )

    @classmethod
    def read(cls, *paths: Path, overrides: Iterable[str] = ()) -> TrainSpec:
        """The spec in YAML files, later ones winning, and then `overrides` written key=value.

        Raises:
            ConfigError: lists every key that is unknown, missing or of another type; or it is of
                another framework.
        """
        layer = merge([*map(file_layer, paths), override_layer(overrides)])
        _, rest = framework_of(layer, ("torch",))
        return build(cls, rest).settings
