"""Pipeline parallelism: a model cut into stages, its batches into microbatches.

    layout = PipelineLayout(schedule="1f1b", num_ranks=4, num_microbatches=8, stages_per_rank=1)
    starts = split_by_cost(measure_costs(find_chain(model), rows[:16]), layout.num_stages)
    # `starts` is decided on one rank; from here on every rank does the same.
    pipeline = Pipeline(
        model, layout, axis=mesh["pipeline"], starts=starts, loss=loss, microbatch_size=16
    )
    with pipeline.recording() as recording:
        loss_sum = pipeline.step(rows, labels, scale=1 / len(rows))
    print(draw(recording.timeline))

Layouts, orders, splits and timelines are plain values: nothing here loads torch until a name that
needs it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raymlops.train.pipeline.costs import BlockCost, measure_costs
from raymlops.train.pipeline.drawing import chrome_trace, draw
from raymlops.train.pipeline.order import Action, Kind, work_order
from raymlops.train.pipeline.schedules import SCHEDULES, PipelineLayout
from raymlops.train.pipeline.split import split_by_cost, split_by_hand
from raymlops.train.pipeline.timeline import Span, Timeline, equal_stages, simulate

if TYPE_CHECKING:
    from raymlops.train.pipeline.chain import Chain, find_chain
    from raymlops.train.pipeline.graph import Chained
    from raymlops.train.pipeline.step import Pipeline

__all__ = [
    "SCHEDULES",
    "Action",
    "BlockCost",
    "Chain",
    "Chained",
    "Kind",
    "Pipeline",
    "PipelineLayout",
    "Span",
    "Timeline",
    "chrome_trace",
    "draw",
    "equal_stages",
    "find_chain",
    "measure_costs",
    "simulate",
    "split_by_cost",
    "split_by_hand",
    "work_order",
]

_MODULE_OF = {"Chain": "chain", "Chained": "graph", "Pipeline": "step", "find_chain": "chain"}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
