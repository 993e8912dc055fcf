"""The training loop: the same lines for one process and for every worker of every layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from raymlops.data.loading import InOrder, Position
from raymlops.errors import TrainingError
from raymlops.train.checkpoints.checkpoints import Checkpoints
from raymlops.train.generators import seed_others
from raymlops.train.layouts import Rows, arrange
from raymlops.train.layouts.inputs import telling_of_inputs
from raymlops.train.layouts.model import build_model
from raymlops.train.loop.alike import require_alike, require_same_epoch
from raymlops.train.loop.batches import num_steps
from raymlops.train.loop.buffers import copy_buffers, put_back
from raymlops.train.loop.feed import Batch, Feed
from raymlops.train.loop.flops import count_flops
from raymlops.train.loop.meter import Meter
from raymlops.train.loop.modes import in_evaluation, train_but
from raymlops.train.loop.progress import Progress
from raymlops.train.loop.scale import LossScale
from raymlops.train.loop.state import State
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.loading import make_order
from raymlops.train.spec.sources import Sources
from raymlops.train.updaters.make import make_updater

if TYPE_CHECKING:
    from raymlops.train.updaters.served import StartServer

Log = Callable[[Mapping[str, float], int], None]
"""Takes values and the step they belong to; called on rank 0, and must not take long."""

_NUM_PROBE_ROWS = 2


class Loop:
    """One worker's training. All workers of a plan make one, with the same spec, and `run` it.

    `start_server` starts the plan's parameter server, on Ray by default.

    Raises:
        TrainingError: the model, the precision or the plan cannot be had here, or the data are not
            what the spec needs.
    """

    def __init__(
        self,
        spec: TrainSpec,
        seat: Seat,
        *,
        sources: Sources | None = None,
        checkpoints: Checkpoints | None = None,
        log: Log | None = None,
        start_server: StartServer | None = None,
    ) -> None:
        seat.device.require(spec.precision)
        self._spec = spec
        self._seat = seat
        sources = sources or Sources.make(spec.data)
        sources.require_for(spec.stopping)
        require_alike(seat.of_each(sources.lengths))
        order = make_order(spec.loading, sources.train, seed=spec.seed)
        self._train = Feed(spec, seat, sources.train, order)
        self._validation = None
        if (held_out := sources.validation) is not None:
            self._validation = Feed(spec, seat, held_out, InOrder(num_rows=len(held_out)))
        self._checkpoints = checkpoints
        self._log = log
        probe = self._train.probe(_NUM_PROBE_ROWS)
        folder = checkpoints.folder if checkpoints is not None else None
        self._probe = Rows(inputs=probe[:-1], targets=probe[-1])
        with telling_of_inputs(spec, self._probe.inputs):
            self._layout = arrange(spec, seat, self._probe, folder)
        self._frozen = in_evaluation(self._layout.parts)
        self.num_steps = num_steps(spec, len(self._train))
        self._updater = make_updater(
            spec,
            self._layout.parts,
            seat,
            num_steps=self.num_steps,
            start_server=start_server,
            unreached=self._layout.unreached,
            wavering=self._layout.wavering,
        )
        self._compression = self._layout.compression or self._updater.compression
        self._state = State(self._updater.saved, seat, self._compression)
        self._targets_per_row = probe[-1][0].numel()
        self._meter = self._make_meter(probe[:-1])
        scale = LossScale.first(spec.precision)
        self._progress = Progress(scale=scale, num_rows=len(self._train))
        self._sent_bytes = 0

    def run(self) -> Progress:
        """Trains to the end, from the newest checkpoint if there is one.

        Raises:
            TrainingError: the loss stopped being a number, or the model does not take the data.
        """
        try:
            self._begin()
            with (
                telling_of_inputs(self._spec, self._probe.inputs),
                self._updater.running(self._progress.step),
            ):
                # A checkpoint of the last step may be of an epoch that has still to end.
                while self._has_read_epoch() or not self._is_over():
                    self._learn_rest_of_epoch()
                    if self._has_read_epoch():
                        self._end_epoch()
                self._gather()
            if self._checkpoints is not None:
                self._checkpoints.wait()
        finally:
            if self._compression is not None:
                self._compression.close()
        return self._progress

    def weights(self) -> dict[str, Any]:
        """All parameters on rank 0, by name; every worker calls it."""
        return self._state.weights()

    @property
    def state(self) -> State:
        return self._state

    @property
    def parts(self) -> Sequence[torch.nn.Module]:
        """What this worker holds of the model."""
        return self._layout.parts

    def _begin(self) -> None:
        seed = self._spec.seed + self._seat.stream
        torch.manual_seed(seed)
        seed_others(seed)
        latest = self._checkpoints.latest() if self._checkpoints is not None else None
        if self._checkpoints is not None and latest is not None:
            tensors = self._state.template(self._checkpoints.shapes(latest))
            before = self._checkpoints.load(latest, tensors)
            require_same_epoch(before, len(self._train))
            self._progress = replace(before, num_rows=len(self._train))
            self._state.restore(tensors)
        self._meter.restart()

    def _is_over(self) -> bool:
        done = self._progress
        most = self._spec.max_steps
        return (
            done.ended is not None
            or done.epoch > self._spec.epochs
            or (most is not None and done.step >= most)
        )

    def _has_read_epoch(self) -> bool:
        return self._progress.batch * self._spec.batch_size >= len(self._train)

    def _learn_rest_of_epoch(self) -> None:
        train_but(self._frozen, self._layout.parts)
        done = self._progress
        row = min(done.batch * self._spec.batch_size, len(self._train))
        with closing(self._train.epoch(Position(epoch=done.epoch, row=row))) as batches:
            drawn = self._meter.drawn("data", batches)
            while not (self._is_over() or self._has_read_epoch()):
                self._step(next(drawn))

    def _step(self, batch: Batch) -> None:
        # A forward pass changes them before anyone knows whether the step will be skipped.
        may_skip = self._spec.stopping.on_nan == "skip"
        buffers = copy_buffers(self._layout.parts) if may_skip else None
        total = self._gradients(batch)
        with self._meter.spent("wait"):
            loss_sum = total()
        with self._meter.spent("update"):
            norm, finite = self._updater.update(loss_sum, self._progress)
            if buffers is not None and not finite:
                put_back(buffers, self._layout.parts)
            self._seat.device.end_step()
        self._meter.move(self._updater.exchange_s, "update", "communication")
        spec, before = self._spec, self._progress
        self._progress = before.after_step(
            loss_sum, num_rows=batch.global_size, finite=finite, precision=spec.precision
        )
        self._settle_unsent(self._progress.scale.value / before.scale.value, finite=finite)
        num_targets = self._updater.num_summed(batch.global_size) * self._targets_per_row
        self._tell(
            {
                "loss": loss_sum / num_targets,
                "learning_rate": self._updater.learning_rate(before.step),
                **({} if norm is None else {"gradient_norm": norm}),
                **({} if finite else {"skipped": 1.0}),
                **self._sent(),
                **self._meter.finish(batch.global_size),
            }
        )
        why = self._progress.hopeless(loss_sum, spec.stopping, spec.precision)
        if why is not None:
            raise TrainingError(
                f"{why}; try a learning rate below {spec.optimizer.learning_rate:g}, clip_norm, or "
                "look for such numbers in the data"
            )
        if self._checkpoints is not None and self._checkpoints.is_due(self._progress.step):
            self._gather()
            self._checkpoints.save(self._state.tensors(), self._progress)

    def _gradients(self, batch: Batch) -> Callable[[], float]:
        """Leaves the gradients of the mean over the global batch; what is returned waits for the
        summed loss of all workers."""
        self._updater.clear(keep=self._layout.keeps_gradients)
        # Replicas average their gradients: scaled so, the average is the mean over all rows of the
        # global batch, also when the workers' parts differ in size.
        share = self._seat.plan.num_replicas / (batch.global_size * self._targets_per_row)
        count = self._train.num_pieces(batch)
        losses: list[torch.Tensor] = []
        totals: list[Callable[[], float]] = []

        def tell(loss: torch.Tensor) -> None:
            losses.append(loss)
            if len(losses) == count:
                totals.append(self._updater.begin_total(torch.stack(losses).sum()))

        pieces = self._meter.drawn("data", self._train.pieces(batch))
        for number, rows in enumerate(pieces, start=1):
            with self._meter.spent("compute"):
                scale = share * self._progress.scale.value
                self._layout.backward(rows, scale=scale, last=number == count, tell=tell)
            self._meter.move(self._layout.idle_s, "compute", "bubble")
        self._meter.move(self._layout.exchange_s, "compute", "communication")
        with self._meter.spent("compute"):
            float(losses[-1])  # a device that computes behind the host's back is waited for
        (total,) = totals
        return total

    def _settle_unsent(self, factor: float, *, finite: bool) -> None:
        """What compression has not sent yet are gradients of the scaled loss, none of them of a
        step that was skipped."""
        if self._compression is None:
            return
        self._compression.settle(finite=finite)
        if factor != 1.0:
            self._compression.rescale(factor)

    def _sent(self) -> dict[str, float]:
        """What compression sent since it was last asked."""
        if self._compression is None:
            return {}
        before, self._sent_bytes = self._sent_bytes, self._compression.sent_bytes
        return {"sent_mb": (self._sent_bytes - before) / 2**20}

    def _end_epoch(self) -> None:
        self._gather()
        done, spec = self._progress, self._spec
        losses = {"train_loss": done.mean_loss(len(self._train)) / self._targets_per_row}
        validation = self._validate()
        if validation is not None:
            losses["validation_loss"] = validation
        self._tell(losses)
        self._progress = done.after_epoch(validation, spec.stopping)
        self._meter.restart()

    def _gather(self) -> None:
        """Lets every worker and every tensor arrive at the step all of them have reached.

        Buffers become those of the first replica, as DDP has them at its next pass: what is saved,
        validated and returned at the end is one model.
        """
        loss_sum = self._updater.gather(self._progress.loss_sum)
        for part in self._layout.parts:
            self._seat.align(part.buffers())
        self._progress = replace(self._progress, loss_sum=loss_sum)

    def _validate(self) -> float | None:
        """The mean loss over the validation source."""
        if self._validation is None:
            return None
        for part in self._layout.parts:
            part.eval()
        total = 0.0
        for batch in self._validation.epoch(Position()):
            for rows in self._validation.pieces(batch):
                total += float(self._layout.evaluate(rows))
        (total,) = self._seat.total([total])
        return total / (len(self._validation) * self._targets_per_row)

    def _tell(self, values: Mapping[str, float]) -> None:
        if self._log is not None and self._seat.rank == 0:
            self._log(values, self._progress.step)

    def _make_meter(self, probe: tuple[torch.Tensor, ...]) -> Meter:
        spec, device = self._spec, self._seat.device
        if self._log is None:
            return Meter(device)
        peak = device.peak_flops_per_s(spec.precision) * self._seat.plan.num_workers
        return Meter(device, count_flops(partial(build_model, spec), probe), peak)
