"""From a spec and a seat to a layout."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from torch import nn

from raymlops.train.compression import make_compressor
from raymlops.train.layouts.alone import Alone
from raymlops.train.layouts.base import Context, Layout, Rows
from raymlops.train.layouts.blocks import blocks_of
from raymlops.train.layouts.chance import find_chance
from raymlops.train.layouts.changing import Changes, find_changes, keeping
from raymlops.train.layouts.meeting import looks_at_rows
from raymlops.train.layouts.model import (
    build_model,
    compile_model,
    require_constant_lookups,
    require_trainable,
)
from raymlops.train.layouts.norms import SharedNorms, share_norms
from raymlops.train.layouts.recomputed import recompute
from raymlops.train.layouts.shards import gathered, without_skipped
from raymlops.train.layouts.unreached import find_unreached
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.recipe import Loss, make_loss


def arrange(spec: TrainSpec, seat: Seat, probe: Rows, folder: Path | None = None) -> Layout:
    """This worker's part of the model of `spec`, from the same first weights whatever the plan.

    `probe` is a row or two, the same on every worker. What is measured to lay the model out is kept
    in `folder`.

    Raises:
        TrainingError: the model cannot be laid out like this.
    """
    plan, device = seat.plan, seat.device
    draft = _draft(spec, seat, probe)
    if plan.pipeline > 1:
        return draft.staged(folder)
    if plan.shard > 1 or (plan.data > 1 and plan.tensor > 1):  # DDP takes no sliced layers
        return draft.sharded()
    if spec.cuda_graphs or (plan.data > 1 and device.sends_from != device.where):
        return draft.averaged()
    return draft.replicated() if plan.data > 1 and not plan.server else draft.alone()


def _draft(spec: TrainSpec, seat: Seat, probe: Rows) -> _Draft:
    model = build_model(spec).to(seat.device.where)
    if not model.training:  # as libraries hand out pretrained ones: no choice of what to freeze
        model.train()
    require_trainable(spec, model)
    if seat.plan.num_replicas > 1 or seat.plan.server:
        require_constant_lookups(model)
    computing = partial(seat.device.autocast, spec.precision)
    changes = _changes(spec, seat, model, probe, computing)
    with keeping(model, changes.parameters):
        by_chance = _is_by_chance(seat.plan, model, probe, computing)
        norms = share_norms(spec, model, seat, _passes(probe), computing, by_chance=by_chance)
    around: Context = nullcontext
    if seat.plan.tensor > 1:
        from raymlops.train.layouts.slicing import slice_layers

        around = slice_layers(model, spec.tensor, seat, probe.inputs)
    blocks = blocks_of(model)
    if spec.activation_checkpointing:
        is_compiled = spec.compile is not None
        recompute(model, blocks, compiled=is_compiled, shares_norms=norms is not None)
    return _Draft(
        spec=spec,
        seat=seat,
        probe=probe,
        model=model,
        blocks=blocks,
        computing=computing,
        around=around,
        changes=changes,
        by_chance=by_chance,
        norms=norms,
    )


def _changes(
    spec: TrainSpec, seat: Seat, model: nn.Module, probe: Rows, computing: Context
) -> Changes:
    """What passes change, as two workers see it, each with another row."""
    if seat.plan.num_workers == 1:
        return Changes(parameters=(), buffers=(), by_rows=())
    found = find_changes(spec, model, _passes(probe), computing)
    found.require_kept(seat.plan, model)
    if seat.rank == 0:
        found.warn(seat.plan, model)
    return found


def _is_by_chance(plan: ParallelPlan, model: nn.Module, probe: Rows, computing: Context) -> bool:
    """Whether each worker goes a way through the model that it draws."""
    if plan.num_workers == 1 and not plan.server:
        return False
    found = find_chance(model, probe, computing)
    found.require_shared(plan, model)
    return found.decides


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A model that is ready to be laid out, in one of these ways."""

    spec: TrainSpec
    seat: Seat
    probe: Rows
    model: nn.Module
    blocks: dict[str, nn.Module]
    computing: Context
    around: Context
    changes: Changes
    by_chance: bool
    norms: SharedNorms | None

    @cached_property
    def _loss(self) -> Loss:
        return make_loss(self.spec.loss)

    def staged(self, folder: Path | None) -> Layout:
        from raymlops.train.layouts.staged import Staged, decide_stages

        size = _microbatch_size(self.spec, self.seat.plan)
        rows = tuple(x[:1].expand(size, *x.shape[1:]).contiguous() for x in self.probe.inputs)
        pipeline = self.spec.pipeline
        with self.around():
            unreached, looks = self._perhaps_unreached(), self._looks()
        return Staged(
            self.model,
            self._loss,
            self.seat,
            starts=pipeline.starts or decide_stages(self.model, self.seat, rows, folder),
            microbatch_size=size,
            blocks=without_skipped(
                self.model, gathered(self.model, self.blocks, self.seat.plan), unreached
            ),
            computing=self.computing,
            prepare=self._compile,
            timeline_to=folder if pipeline.timeline else None,
            unreached=unreached,
            looks=looks,
        )

    def sharded(self) -> Layout:
        from raymlops.train.layouts.sharded import Sharded

        blocks = gathered(self.model, self.blocks, self.seat.plan)
        with self.around():
            unreached, looks = self._perhaps_unreached(), self._looks()
        self._compile(self.model)
        return Sharded(
            self.model,
            self._loss,
            self.seat,
            blocks=without_skipped(self.model, blocks, unreached),
            unreached=unreached,
            looks=looks,
            norms=self.norms,
            computing=self.computing,
            around=self.around,
        )

    def averaged(self) -> Layout:
        from raymlops.train.layouts.averaged import Averaged

        self._compile(self.model)
        recorder = self.seat.device.recorder() if self.spec.cuda_graphs else None
        return Averaged(
            self.model,
            self._loss,
            self.seat,
            norms=self.norms,
            computing=self.computing,
            recorder=recorder,
        )

    def replicated(self) -> Layout:
        from raymlops.train.layouts.replicated import Replicated

        unreached = self._perhaps_unreached()
        self._compile(self.model)
        with keeping(self.model, self.changes.parameters):
            return Replicated(
                self.model,
                self._loss,
                self.seat,
                _first_alone(self.probe),
                norms=self.norms,
                computing=self.computing,
                compressor=make_compressor(self.spec.communication),
                unreached=unreached,
            )

    def alone(self) -> Layout:
        has_server = self.seat.plan.server > 0
        unreached = self._unreached_by(self.probe) if has_server else []
        wavering = self._wavering() if has_server else []
        self._compile(self.model)
        return Alone(
            self.model,
            self._loss,
            norms=self.norms,
            computing=self.computing,
            around=self.around,
            unreached=unreached,
            wavering=wavering,
        )

    def _perhaps_unreached(self) -> list[str]:
        """What a pass of a worker may not reach, and those of others at the same time may."""
        return self._trained() if self.by_chance else self._unreached_by(_first_alone(self.probe))

    def _looks(self) -> bool:
        """Whether rows may decide which way a pass goes, also where the first ones do not."""
        with keeping(self.model, self.changes.parameters):
            return looks_at_rows(self.model, self.probe, self.computing)

    def _wavering(self) -> list[str]:
        """What one pass reaches and another does not."""
        one, other = (set(self._unreached_by(rows)) for rows in _passes(self.probe))
        return self._trained() if self.by_chance else sorted(one ^ other)

    def _trained(self) -> list[str]:
        return [name for name, p in self.model.named_parameters() if p.requires_grad]

    def _unreached_by(self, rows: Rows) -> list[str]:
        """To be asked before the model is compiled, which two rows are not worth."""
        with keeping(self.model, self.changes.parameters):
            return find_unreached(self.model, self._loss, rows, self.computing)

    def _compile(self, module: nn.Module) -> None:
        compile_model(self.spec, self.seat.device, module)


def _passes(probe: Rows) -> tuple[Rows, Rows]:
    """Those of two workers, each with another row."""
    return _first_alone(probe), _first_alone(_reversed(probe))


def _first_alone(rows: Rows) -> Rows:
    """As many rows, all of them the first: of modules that are used by what is in a row, such as
    experts, it reaches no more than its own."""
    inputs = tuple(x[:1].expand_as(x).contiguous() for x in rows.inputs)
    return replace(
        rows, inputs=inputs, targets=rows.targets[:1].expand_as(rows.targets).contiguous()
    )


def _reversed(rows: Rows) -> Rows:
    return replace(rows, inputs=tuple(x.flip(0) for x in rows.inputs), targets=rows.targets.flip(0))


def _microbatch_size(spec: TrainSpec, plan: ParallelPlan) -> int:
    """Rows of the largest microbatch of any worker."""
    rows = -(-spec.batch_size // plan.num_replicas)
    return -(-rows // (spec.accumulation * plan.microbatches))
