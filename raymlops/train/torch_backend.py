"""What torch brings to the Trainer."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from raymlops.config.configured import nearest
from raymlops.errors import TrainingError
from raymlops.storage import Files
from raymlops.train.communication import for_gpus_alone, variables_of
from raymlops.train.loop.progress import Progress
from raymlops.train.pipeline.schedules import find_schedule
from raymlops.train.plan import Axis, ParallelPlan
from raymlops.train.plan.feasibility import Limits
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.spec import factory_of
from raymlops.train.workers.worker import WEIGHTS, work

if TYPE_CHECKING:
    import torch
    from ray.train.backend import BackendConfig

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TorchBackend:
    """Trains a `TrainSpec` under any plan, over NCCL on GPUs and gloo elsewhere."""

    spec: TrainSpec
    name = "torch"
    lighter = (
        "a smaller batch_size, more accumulation, activation_checkpointing, or a plan with more "
        "shards"
    )

    @property
    def work(self) -> Callable[[dict[str, Any]], None]:
        return work

    @property
    def environment(self) -> Mapping[str, str]:
        found = variables_of(self.spec.communication)
        on_gpu = self.spec.device == "cuda"
        return {name: v for name, v in found.items() if on_gpu or name.startswith("GLOO_")}

    def ray_config(self, plan: ParallelPlan) -> BackendConfig:
        from raymlops.train.communication.rendezvous import Rendezvous
        from raymlops.train.devices import group_backend

        return Rendezvous(backend=group_backend(self.spec.device))

    def limits(self, plan: ParallelPlan, limits: Limits) -> Limits:
        self._require_communication()
        self._require_functions()
        self._require_optimizer()
        self._require_compiler()
        limits = replace(limits, accumulation=self.spec.accumulation, closed=self._closed(plan))
        if plan.num_workers == plan.data and not plan.server:
            from raymlops.train.layouts.model import outline

            outline(self.spec)  # what it cannot make so may need files or devices of the workers
            return limits
        from raymlops.train.layouts.limits import within

        return within(self.spec, limits)

    def progress(self, folder: str) -> Progress:
        return Progress.from_dict(_read(folder)["progress"])

    def weights(self, folder: str) -> Mapping[str, torch.Tensor]:
        weights: Mapping[str, torch.Tensor] = _read(folder)["weights"]
        return weights

    def model(self, folder: str) -> torch.nn.Module:
        from raymlops.train.layouts.model import build_model

        model = build_model(self.spec)
        model.load_state_dict(dict(self.weights(folder)))
        return model

    def _closed(self, plan: ParallelPlan) -> Mapping[Axis | Literal["server"], str]:
        """What cannot be had with this spec, nor with the plan's schedule, and why."""
        spec = self.spec
        if (why := self._why_copies_alone()) is not None:
            return {"shard": why, "tensor": why, "pipeline": why, "server": why}
        if spec.communication.compressor is not None:
            why = (
                f"communication.compressor is {spec.communication.compressor}, which takes "
                "gradients of whole copies: use data alone, or set it to null"
            )
            return {"shard": why, "tensor": why, "pipeline": why}
        closed: dict[Axis | Literal["server"], str] = {}
        if spec.compile is not None and spec.activation_checkpointing:
            closed["tensor"] = (
                f"compile is {spec.compile} and activation_checkpointing true, which torch cannot "
                "do together to sliced layers: leave out one"
            )
        if spec.compile is not None and find_schedule(plan.schedule).mixes_backward:
            # A backward pass compiled to free what it has read cannot run in two halves.
            closed["pipeline"] = (
                f"compile is {spec.compile}, and compiled stages cannot compute gradients of "
                f"weights now with those of inputs, now after them, as schedule {plan.schedule} "
                "does: choose another, or set compile to null"
            )
        return closed

    def _why_copies_alone(self) -> str | None:
        spec = self.spec
        if spec.cuda_graphs:
            return (
                "cuda_graphs is true, which records whole copies: use data alone, or set it to "
                "false"
            )
        if spec.device == "xla":
            return "device is xla, which trains whole copies: use data alone"
        return None

    def _require_functions(self) -> None:
        """Raises TrainingError where the spec names a function there is not, or a loss module that
        cannot be one."""
        spec = self.spec
        loss = [spec.loss] if isinstance(spec.loss, Factory) else []
        own: list[tuple[Factory, int]] = [(each, 0) for each in (spec.model, spec.data, *loss)]
        if ":" in spec.optimizer.name:
            own.append((factory_of(spec.optimizer), 1))
        if ":" in spec.schedule.name:
            own.append((Factory(call=spec.schedule.name), 0))
        for factory, num_first in own:
            try:
                factory.function(num_first=num_first)
            except ValueError as error:
                raise TrainingError(str(error)) from error
        # A function may load what is there in workers alone; a class, as of torch.nn, does not.
        if any(isinstance(factory.function(), type) for factory in loss):
            from raymlops.train.spec.recipe import make_loss

            make_loss(spec.loss)

    def _require_optimizer(self) -> None:
        """Raises TrainingError where an optimizer of torch does not take the spec's arguments."""
        import torch

        from raymlops.train.spec.recipe import make_optimizer

        spec = self.spec.optimizer
        if ":" in spec.name:  # which may want to know the model's parameters
            return
        try:
            make_optimizer(spec, [torch.nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"optimizer {spec.name} does not take arguments {dict(spec.arguments)}: {error}"
            ) from error

    def _require_compiler(self) -> None:
        """Raises TrainingError where torch.compile has no backend of the spec's name."""
        name = self.spec.compile
        if name is None:
            return
        import torch

        known = torch.compiler.list_backends(exclude_tags=())
        if name not in known:
            raise TrainingError(
                f"compile is {name}, of which torch.compile has no backend{nearest(name, known)}; "
                f"known: {', '.join(torch.compiler.list_backends())}, or null to compile nothing"
            )

    def _require_communication(self) -> None:
        """Raises TrainingError, or warns, of settings that these workers cannot honour."""
        from raymlops.train.compression import make_compressor

        spec = self.spec.communication
        try:
            compressor = make_compressor(spec)
        except (TypeError, ValueError) as error:
            raise TrainingError(str(error)) from error
        device = self.spec.device
        if compressor is not None and device != "cpu":
            raise TrainingError(
                f"communication.compressor is {spec.compressor}, which compresses on the CPU, and "
                f"device is {device}: set the first to null, or the second to cpu"
            )
        if device == "cuda" and spec.sockets.nodelay is False:
            raise TrainingError(
                "communication.sockets.nodelay is false, and NCCL always sends at once: leave it "
                "out"
            )
        if device != "cuda" and (unread := for_gpus_alone(spec)):
            _logger.warning(
                "communication sets %s, which workers without a GPU do not read", ", ".join(unread)
            )


def _read(folder: str) -> dict[str, Any]:
    import torch

    file = io.BytesIO(Files(folder).read(WEIGHTS))
    found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return found
