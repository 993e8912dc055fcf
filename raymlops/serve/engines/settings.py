"""What a user may say about how models are run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EngineName = Literal["onnx", "torch", "keras", "sklearn", "pmml", "python"]
GraphLevel = Literal["none", "basic", "extended", "all"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How a replica runs its models; what a library does not have is not silently ignored.

    Args:
        engine: must be able to run the bundle's format; None is the format's own.
        num_instances: batches that run at once, on one copy of the weights.
        num_threads: of one batch.
        cpus: the processors that instances are pinned to, `num_threads` for each; empty pins none.
        device: auto is the GPU where there is one that the library can use.
        graph_level: what ONNX Runtime optimises.
        io_binding: lets ONNX Runtime keep inputs and outputs on its device.
        compile: torch.compile, whose first run takes seconds; only for modules of torch.
        isolate: runs the model in processes, one an instance: what crashes or hangs there fails
            its batch, and not the replica. Costs the copy of a batch into the process and back.
    """

    engine: EngineName | None = None
    num_instances: int = 1
    num_threads: int = 1
    cpus: tuple[int, ...] = ()
    device: Device = "auto"
    graph_level: GraphLevel = "all"
    io_binding: bool = False
    compile: bool = False
    isolate: bool = False

    def __post_init__(self) -> None:
        for name in ("num_instances", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, at least 1 is needed")
        wanted = self.num_instances * self.num_threads
        if self.cpus and len(set(self.cpus)) != wanted:
            raise ValueError(
                f"cpus names {len(set(self.cpus))} processors, {self.num_instances} instances of "
                f"{self.num_threads} threads need {wanted}"
            )

    def cpus_of(self, instance: int) -> tuple[int, ...]:
        """The processors of one instance; empty when it is not pinned."""
        start = instance * self.num_threads
        return self.cpus[start : start + self.num_threads]
