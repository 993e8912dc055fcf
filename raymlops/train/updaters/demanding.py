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
        refusal=refusal or _unpacked(spec, types),
        max_shards=most_shards({name: tuple(p.shape) for name, p in trained.items()}, tables),
        max_workers=MAX_WORKERS,
        skips=_skips(spec),
        scheduled=spec.schedule != ScheduleSpec(),
    )


def _unpacked(spec: TrainSpec, types: list[str]) -> str | None:
    """Why gradients cannot be compressed on their way to a server, None if they can or are not."""
    name = spec.communication.compressor
    if name is None:
        return None
    compressor = f"communication.compressor is {name}"
    if name == "power_sgd":
        return (
            f"{compressor}, which factors whole matrices, and a server cuts parameters into ranges "
            "of its shards: choose another"
        )
    if types != ["torch.float32"]:
        return f"{compressor}, which takes float32, and the trained parameters are of type {types}"
    if spec.precision == "fp16":
        return (
            f"{compressor} and precision fp16: what is not sent is kept unscaled here, and scaled "
            "by every other plan; set precision to fp32 or bf16"
        )
    return None


def _skips(spec: TrainSpec) -> str | None:
    if spec.precision == "fp16":
        return "precision is fp16, which leaves out steps whose gradients overflow"
    if spec.stopping.on_nan == "skip":
        return "stopping.on_nan is skip, which leaves out steps"
    return None
