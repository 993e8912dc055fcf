"""From a spec and its model to what a parameter server would have to honour."""

from __future__ import annotations

from torch import nn

from raymlops.train.server.arena import MAX_WORKERS
from raymlops.train.server.partition import most_shards
from raymlops.train.spec import ScheduleSpec, TrainSpec
from raymlops.train.updaters.counterparts import counterpart
from raymlops.train.updaters.demands import Demands
from raymlops.train.updaters.tables import find_tables

_TYPES = {"torch.float32", "torch.float64"}


def demands_of(spec: TrainSpec, model: nn.Module) -> Demands:
    """What `spec` asks of a server, given its model, whose weights are not looked at."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    types = sorted({str(parameter.dtype) for parameter in trained.values()})
    refusal, tables = None, set()
    try:
        counterpart(spec.optimizer, spec.optimizer.learning_rate)
        tables = set(find_tables(model))
    except ValueError as error:
        refusal = str(error)
    if len(types) != 1 or not set(types) <= _TYPES:
        refusal = (
            f"the trained parameters are of types {types or 'none'}; a server holds one, float32 "
            "or float64"
        )
    return Demands(
        refusal=refusal,
        max_shards=most_shards({name: tuple(p.shape) for name, p in trained.items()}, tables),
        max_workers=MAX_WORKERS,
        clips=spec.clip_norm is not None,
        skips=_skips(spec),
        scheduled=spec.schedule != ScheduleSpec(),
    )


def _skips(spec: TrainSpec) -> str | None:
    if spec.precision == "fp16":
        return "precision is fp16, which leaves out steps whose gradients overflow"
    if spec.stopping.on_nan == "skip":
        return "stopping.on_nan is skip, which leaves out steps"
    return None
