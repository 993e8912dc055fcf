"""What each rank does in which order: the actions of a schedule, as torch makes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

from raymlops.train.pipeline.schedules import PipelineLayout, find_schedule

_TEXT = re.compile(r"(\d+)([FBIW])(\d+)")


class Kind(StrEnum):
    """What is computed of one microbatch in one stage."""

    FORWARD = "F"
    BACKWARD = "B"  # gradients of inputs and of weights
    BACKWARD_INPUT = "I"
    BACKWARD_WEIGHT = "W"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One piece of a pipeline's work; written `2F0`: stage 2, forward, microbatch 0."""

    stage: int
    kind: Kind
    microbatch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.microbatch}"

    @classmethod
    def parse(cls, text: str) -> Action:
        """The action written so.

        Raises:
            ValueError: nothing is.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' is no action; 2F0 is one: stage 2, forward, microbatch 0")
        stage, kind, microbatch = match.groups()
        return cls(stage=int(stage), kind=Kind(kind), microbatch=int(microbatch))


Order = tuple[tuple[Action, ...], ...]  # by rank


def work_order(layout: PipelineLayout) -> Order:
    """The actions of every rank of `layout`, without running anything."""
    ranks = range(layout.num_ranks)
    match layout.schedule:
        case "gpipe":
            return tuple(_all_forward_then_backward(rank, layout) for rank in ranks)
        case "1f1b":
            return tuple(_one_forward_one_backward(rank, layout) for rank in ranks)
        case _:
            return _order_of_torch(layout)


def _all_forward_then_backward(stage: int, layout: PipelineLayout) -> tuple[Action, ...]:
    microbatches = range(layout.num_microbatches)
    forward = [Action(stage=stage, kind=Kind.FORWARD, microbatch=index) for index in microbatches]
    backward = [Action(stage=stage, kind=Kind.BACKWARD, microbatch=index) for index in microbatches]
    return (*forward, *backward)


def _one_forward_one_backward(stage: int, layout: PipelineLayout) -> tuple[Action, ...]:
    """As torch's Schedule1F1B runs it. (The `pipeline_order` it shows leaves out the last stage's
    first forward, torch 2.13.)"""
    actions = _all_forward_then_backward(stage, layout)
    forward, backward = actions[: layout.num_microbatches], actions[layout.num_microbatches :]
    num_ahead = layout.num_stages - stage
    steady = [
        action for pair in zip(backward, forward[num_ahead:], strict=False) for action in pair
    ]
    return (*forward[:num_ahead], *steady, *backward[len(steady) // 2 :])


def _order_of_torch(layout: PipelineLayout) -> Order:
    from torch.distributed.pipelining.schedules import get_schedule_class

    # A schedule asks its stages for nothing but these numbers before it runs.
    stage: Any = SimpleNamespace(
        group_rank=0, group_size=layout.num_ranks, num_stages=layout.num_stages, submod=None
    )
    schedule = get_schedule_class(find_schedule(layout.schedule).class_name)
    order = schedule([stage] * layout.stages_per_rank, layout.num_microbatches).pipeline_order
    return tuple(_flat(order[rank]) for rank in range(layout.num_ranks))


def _flat(actions: list[Any]) -> tuple[Action, ...]:
    """Without idle slots; a forward "overlapped" with a backward runs before it."""
    return tuple(
        Action.parse(str(step))
        for action in actions
        if action is not None
        for step in (action.sub_actions or (action,))
    )
