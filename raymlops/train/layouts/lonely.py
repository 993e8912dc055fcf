"""Batches of which a single row is left, and layers that normalise over several.

35 rows in batches of 8, in pieces of 4:   4+4  4+4  4+4  4+4  2+1
                                                                 └─ has no deviation

torch raises that at the end of the first epoch, hours after the training began.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from raymlops.data.loading import Source
from raymlops.errors import TrainingError
from raymlops.train.layouts.model import outline
from raymlops.train.layouts.norms import why_apart
from raymlops.train.plan import ParallelPlan
from raymlops.train.spec import TrainSpec

_REFUSAL = "Expected more than 1 value per channel when training"  # of torch
_FIRST_ROW = np.zeros(1, dtype=np.int64)


def require_company(spec: TrainSpec, plan: ParallelPlan, rows: Source) -> None:
    """Raises TrainingError, with batch sizes that would do, where one row of `rows` goes through a
    layer of the model that does not take it alone."""
    if (size := _lonely_batch(spec, plan, len(rows), spec.batch_size)) is None:
        return
    if (layer := _refusing_layer(spec, rows)) is None:
        return
    others = [
        str(other)
        for other in _by_distance(spec.batch_size, most=len(rows))
        if _lonely_batch(spec, plan, len(rows), other) is None
    ]
    raise TrainingError(
        f"layer {layer} normalises over rows, and {len(rows)} rows in batches of {spec.batch_size} "
        f"leave one of {size} rows, of which a single one goes through it (accumulation "
        f"{spec.accumulation}{_told_apart(spec, plan)}): "
        + (f"set batch_size to {' or '.join(others[:2])}, " if others else "")
        + "leave rows out, or take a norm within rows such as LayerNorm"
    )


def _lonely_batch(
    spec: TrainSpec, plan: ParallelPlan, num_rows: int, batch_size: int
) -> int | None:
    """The rows of a batch that is trained on, a piece of which has one row, or a stand-in."""
    num_full, rest = divmod(num_rows, batch_size)
    is_last_read = spec.max_steps is None or spec.max_steps > num_full
    sizes = [batch_size] * (num_full > 0) + [rest] * (rest > 0 and is_last_read)
    pieces = spec.accumulation * _num_apart(spec, plan)
    return next((size for size in sizes if size // pieces < 2), None)


def _num_apart(spec: TrainSpec, plan: ParallelPlan) -> int:
    """How many workers normalise each their own rows of a piece."""
    return 1 if why_apart(spec, plan) is None else plan.num_replicas


def _told_apart(spec: TrainSpec, plan: ParallelPlan) -> str:
    why = why_apart(spec, plan)
    return "" if why is None else f", and {plan.num_replicas} workers apart, since {why}"


def _by_distance(size: int, *, most: int) -> Iterator[int]:
    for distance in range(1, max(size, most)):
        yield from (other for other in (size - distance, size + distance) if 0 < other <= most)


def _refusing_layer(spec: TrainSpec, rows: Source) -> str | None:
    """The layer at which a row by itself ends, None where there is none, or only numbers tell."""
    model = outline(spec)
    if model is None:
        return None
    if not model.training:
        model.train()
    entered: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            told = f"{name} ({type(module).__name__})" if name else type(module).__name__
            module.register_forward_pre_hook(lambda *_, told=told: entered.append(told))
    *columns, _targets = rows.take(_FIRST_ROW)
    try:
        with torch.no_grad():
            model(*(torch.from_numpy(column).to("meta") for column in columns))
    except ValueError as error:
        return entered[-1] if entered and _REFUSAL in str(error) else None
    except Exception:  # of a model that needs its numbers; what else is wrong shows in a step
        return None
    return None
