"""What differs between the frameworks that train: all else is the Trainer's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from raymlops.config import build, file_layer, merge, override_layer
from raymlops.train.keras.backend import KerasBackend
from raymlops.train.keras.spec import KerasSpec
from raymlops.train.loop.progress import Progress
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.feasibility import Limits
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.framework import framework_of
from raymlops.train.torch_backend import TorchBackend

if TYPE_CHECKING:
    from ray.train.backend import BackendConfig

Spec: TypeAlias = TrainSpec | KerasSpec

SPECS: Mapping[str, type[Spec]] = {"torch": TrainSpec, "keras": KerasSpec}
"""By the backend's name, as the ledger and a file's `framework` have it."""


class Backend(Protocol):
    """One spec in the framework that trains it."""

    @property
    def name(self) -> str:
        """The framework, as the ledger has it."""
        ...

    @property
    def lighter(self) -> str:
        """What to use where a worker ran out of memory."""
        ...

    @property
    def work(self) -> Callable[[dict[str, Any]], None]:
        """What each Ray Train worker runs, with its `Task` as "task"."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that its workers start with."""
        ...

    def ray_config(self, plan: ParallelPlan) -> BackendConfig:
        """How Ray Train brings the workers together."""
        ...

    def limits(self, plan: ParallelPlan, limits: Limits) -> Limits:
        """What the framework and the spec's model add to the limits of the cluster.

        Raises:
            TrainingError: the framework is not installed, or the spec asks for what it cannot do
                on such workers.
        """
        ...

    def progress(self, folder: str) -> Progress:
        """How far the training went that left its weights in the folder, a URI."""
        ...

    def weights(self, folder: str) -> Mapping[str, Any]:
        """The weights there, by name."""
        ...

    def model(self, folder: str) -> Any:
        """The spec's model with the weights there."""
        ...


def backend_of(spec: Spec) -> Backend:
    return KerasBackend(spec) if isinstance(spec, KerasSpec) else TorchBackend(spec)


def read_spec(*paths: Path, overrides: Iterable[str] = ()) -> Spec:
    """The spec in YAML files, later ones winning, and then `overrides` written key=value.

    `framework` there says which kind it is, a TrainSpec of torch unless another is named.

    Raises:
        ConfigError: lists every key that is unknown, missing or of another type.
    """
    whole = merge([*map(file_layer, paths), override_layer(overrides)])
    name, rest = framework_of(whole, tuple(SPECS))
    return build(SPECS[name], rest).settings
