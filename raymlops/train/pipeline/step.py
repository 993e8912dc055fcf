"""A pipeline over the ranks of a mesh axis: a batch in, gradients and the batch's loss out.

batch ─▶ microbatches ─▶ stage 0 ─▶ stage 1 ─▶ ... ─▶ loss ─▶ back again ─▶ summed loss, everywhere
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain as chained
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining.schedules import PipelineScheduleSingle, get_schedule_class

from raymlops.errors import TrainingError
from raymlops.train.loop.modes import keeping_modes
from raymlops.train.pipeline.forward import run_forward
from raymlops.train.pipeline.loss import BatchLoss, Loss, Targets
from raymlops.train.pipeline.microbatches import Microbatches
from raymlops.train.pipeline.modules import Wrap, stage_modules, state_of, wrapped_stage
from raymlops.train.pipeline.passage import Form, agree_on_passages
from raymlops.train.pipeline.schedules import PipelineLayout, find_schedule
from raymlops.train.pipeline.stage import Stage
from raymlops.train.pipeline.timeline import Timeline
from raymlops.train.pipeline.trace import Recorder, gather_timeline

Inputs = torch.Tensor | tuple[torch.Tensor, ...]  # each [rows, ...]


class Recording:
    """What all ranks did within `Pipeline.recording()`; the timeline is there when it has ended."""

    timeline: Timeline


class Pipeline:
    """This rank's stages of `model`, trained in step with those of the other ranks of `axis`.

    Every rank makes one with the same arguments and calls the same methods in the same order.
    `model` is the whole model, alike on every rank; this rank's stages share its modules and leave
    the others alone. `starts` names the first block of each stage, see `split_by_cost` and
    `split_by_hand`. `loss` sums over rows. `wrap` makes replicas of a stage train together, such as
    `partial(fully_shard, mesh=mesh["data"])`; build optimizers afterwards, from `parameters()`.

    Raises:
        ValueError: the arguments contradict each other, or `wrap` and the schedule do.
        TrainingError: the model is no chain, or normalises over the rows of a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: PipelineLayout,
        *,
        axis: DeviceMesh,
        starts: Sequence[str],
        loss: Loss,
        microbatch_size: int,
        wrap: Wrap | None = None,
    ) -> None:
        if axis.ndim != 1 or axis.size() != layout.num_ranks:
            raise ValueError(
                f"the mesh axis has shape {tuple(axis.shape)}, the layout {layout.num_ranks} ranks"
            )
        self.layout = layout
        self.microbatches = Microbatches(count=layout.num_microbatches, size=microbatch_size)
        self._group = axis.get_group()
        self._device = _device_of(axis)
        self._rank = axis.get_local_rank()
        self._loss = BatchLoss(loss, self.microbatches)
        self._recorder = Recorder(rank=self._rank, device=self._device)
        self._starts, parts = stage_modules(model, layout, starts, self._rank)
        self.stages: Mapping[int, nn.Module] = {
            index: wrapped_stage(part.to(self._device), wrap, layout)
            for index, part in parts.items()
        }
        self._forms: tuple[Form, ...] | None = None

    def step(self, inputs: Inputs | None, targets: Targets | None, *, scale: float) -> torch.Tensor:
        """Adds to every parameter's `grad` that of `scale` times the batch's loss; the loss comes
        back unscaled, summed over the batch's rows, on every rank.

        A scale of 1 / rows gives what one process has from the mean over rows, and with replicas
        that average their gradients replicas / (rows of all replicas) does. Where rows weigh
        differently, let the loss weigh them and divide by the sum of weights. Rows may be fewer
        than the microbatches hold, even none: zeros go through then, and where a layer has no
        gradient at zero, any real row at a scale of 0 is none, too. `inputs` are read by the rank
        of the first stage, `targets` by that of the last.

        Raises:
            ValueError: more rows than the microbatches hold, not as many inputs as targets, or rows
                of another form than at first.
        """
        if self._ends_here and targets is None:
            raise ValueError(f"rank {self._rank} holds the last stage and was given no targets")
        arguments = self._begin(inputs, targets, scale=scale)
        self._schedule.step(
            *arguments,
            target=self._loss.numbers if self._ends_here else None,
            return_outputs=False,
        )
        return self._shared_total()

    def evaluate(self, inputs: Inputs | None, targets: Targets | None) -> torch.Tensor:
        """The loss summed over the batch's rows, on every rank; in evaluation mode, without
        gradients."""
        if self._ends_here and targets is None:
            raise ValueError(f"rank {self._rank} holds the last stage and was given no targets")
        outputs = self._forward(inputs, targets)
        if self._ends_here:
            with torch.no_grad():
                for number, output in zip(self._loss.numbers, outputs, strict=True):
                    self._loss(output, number)
        return self._shared_total()

    def predict(self, inputs: Inputs | None) -> torch.Tensor | None:
        """The model's outputs [rows, ...] on the rank of the last stage, None on the others; in
        evaluation mode, without gradients. Both ranks read how many rows `inputs` have."""
        outputs = self._forward(inputs, None)
        if not self._ends_here:
            return None
        if inputs is None:
            raise ValueError(f"rank {self._rank} holds the last stage and was given no inputs")
        return torch.cat(outputs)[: len(_as_tuple(inputs)[0])]

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of this rank's stages."""
        return chained.from_iterable(stage.parameters() for stage in self.stages.values())

    def state_dict(self) -> dict[str, Any]:
        """This rank's part of the model's state, under the whole model's names."""
        return {
            name: value for stage in self.stages.values() for name, value in state_of(stage).items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes this rank's part from a state of the whole model.

        Raises:
            TrainingError: some of it is missing.
        """
        for index, stage in self.stages.items():
            names = state_of(stage).keys()
            missing = sorted(names - state.keys())
            if missing:
                raise TrainingError(f"the state lacks {', '.join(missing)} of stage {index}")
            if names:
                set_model_state_dict(stage, {name: state[name] for name in names})

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """Records a step; what it gives holds all ranks' timeline afterwards, on every rank."""
        recording = Recording()
        self._recorder.waits = True
        try:
            yield recording
        finally:
            self._recorder.waits = False
        recording.timeline = gather_timeline(self._recorder.spans, self._group)

    @property
    def busy_s(self) -> float:
        """Seconds that this rank's stages computed in the last step; the rest of it they waited.
        On an accelerator, where a step only gives orders, true of a recorded step alone."""
        return self._recorder.busy_s

    @property
    def _begins_here(self) -> bool:
        return 0 in self.stages

    @property
    def _ends_here(self) -> bool:
        return self.layout.num_stages - 1 in self.stages

    def _begin(
        self, inputs: Inputs | None, targets: Targets | None, *, scale: float
    ) -> tuple[torch.Tensor, ...]:
        """Checks a batch and gives the padded inputs, where they are read."""
        arguments = () if inputs is None or not self._begins_here else _as_tuple(inputs)
        if self._begins_here and not arguments:
            raise ValueError(f"rank {self._rank} holds the first stage and was given no inputs")
        given = [len(x) for tensors in (inputs, targets) if tensors is not None
                 for x in _as_tuple(tensors)]  # fmt: skip
        if len(set(given)) > 1:
            raise ValueError(f"inputs and targets have {given} rows; give as many of each")
        self.microbatches.check(max(given, default=0))
        padded = tuple(self.microbatches.pad(tensor.to(self._device)) for tensor in arguments)
        forms = tuple(
            Form(shape=(self.microbatches.size, *tensor.shape[1:]), dtype=tensor.dtype)
            for tensor in padded
        )
        if self._forms is None:
            self._start(forms)
        if forms != self._forms:
            raise ValueError(
                f"a microbatch of inputs is {_shown(forms)}, and was {_shown(self._forms or ())} "
                "when the pipeline started; pad them, or make another Pipeline"
            )
        self._recorder.spans.clear()
        if targets is not None:
            targets = _moved(targets, self._device)
        self._loss.begin(targets, scale=scale, device=self._device)
        return padded

    def _start(self, forms: tuple[Form, ...]) -> None:
        """Agrees with the other ranks on what passes between stages."""
        self._check_alike()
        self._passages = agree_on_passages(
            self.stages, self.layout, self._group, self._device, forms
        )
        stages = [
            Stage(
                module,
                index=index,
                num_stages=self.layout.num_stages,
                group=self._group,
                passage=self._passages[index],
                recorder=self._recorder,
            )
            for index, module in self.stages.items()
        ]
        schedule = get_schedule_class(find_schedule(self.layout.schedule).class_name)
        self._schedule = schedule(
            stages[0] if issubclass(schedule, PipelineScheduleSingle) else stages,
            self.layout.num_microbatches,
            loss_fn=self._loss,
            scale_grads=False,
        )
        self._forms = forms

    def _check_alike(self) -> None:
        mine = (self.layout, self._starts, self.microbatches)
        everyone: list[Any] = [None] * self.layout.num_ranks
        dist.all_gather_object(everyone, mine, group=self._group)
        for rank, theirs in enumerate(everyone):
            if theirs != everyone[0]:
                raise ValueError(
                    f"rank {rank} has another pipeline, {theirs}, than rank 0, {everyone[0]}; "
                    "decide on one rank and broadcast, above all what was measured"
                )

    def _forward(self, inputs: Inputs | None, targets: Targets | None) -> list[torch.Tensor]:
        with keeping_modes(*self.stages.values()):
            for stage in self.stages.values():
                stage.eval()
            padded = self._begin(inputs, targets, scale=1.0)
            cut = zip(*(x.tensor_split(self.layout.num_microbatches) for x in padded), strict=True)
            return run_forward(
                self.stages, self._passages, self.layout, self._group, list(cut), self._device
            )

    def _shared_total(self) -> torch.Tensor:
        total = self._loss.total
        last = self.layout.rank_of(self.layout.num_stages - 1)
        dist.broadcast(total, group=self._group, group_src=last)
        return total


def _device_of(axis: DeviceMesh) -> torch.device:
    if axis.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(axis.device_type, torch.accelerator.current_device_index())


def _as_tuple(tensors: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (tensors,) if isinstance(tensors, torch.Tensor) else tensors


def _moved(targets: Targets, device: torch.device) -> Targets:
    if isinstance(targets, torch.Tensor):
        return targets.to(device)
    return tuple(target.to(device) for target in targets)


def _shown(forms: tuple[Form, ...]) -> str:
    return ", ".join(map(str, forms)) or "nothing"
