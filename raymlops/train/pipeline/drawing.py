"""Timelines as text, and as JSON for chrome://tracing and ui.perfetto.dev."""

from __future__ import annotations

import json

from raymlops.train.pipeline.order import Action, Kind
from raymlops.train.pipeline.timeline import Timeline

_FILL = {
    Kind.FORWARD: "-",
    Kind.BACKWARD: "=",
    Kind.BACKWARD_INPUT: "~",
    Kind.BACKWARD_WEIGHT: "+",
}
_IDLE = "."


def draw(timeline: Timeline, *, width: int = 100) -> str:
    """A line a rank, `width` characters for the whole step, and the bubble's share below.

    `F2---` is the forward of microbatch 2, `B2===` its backward, `I2~~~` and `W2+++` the backward's
    two parts; `3F2--` where ranks hold several stages names the stage first. Dots are bubble.
    """
    scale = width / timeline.makespan_s if timeline.spans else 0.0
    rows = [[_IDLE] * width for _ in range(timeline.num_ranks)]
    with_stage = _several_stages(timeline)
    for span in timeline.spans:
        start, end = round(span.start_s * scale), round(span.end_s * scale)
        label = _label(span.action, with_stage=with_stage)
        rows[span.rank][start:end] = label.ljust(end - start, _FILL[span.action.kind])[
            : end - start
        ]
    digits = len(str(timeline.num_ranks - 1))
    lines = [f"rank {rank:>{digits}} |{''.join(row)}|" for rank, row in enumerate(rows)]
    return "\n".join([*lines, f"{timeline.bubble_share:.1%} bubble in {timeline.makespan_s:.4g} s"])


def chrome_trace(timeline: Timeline) -> str:
    """The timeline in the Trace Event Format: a process a rank, a thread a stage, microseconds."""
    names = [
        {"name": "process_name", "ph": "M", "pid": rank, "args": {"name": f"rank {rank}"}}
        for rank in range(timeline.num_ranks)
    ]
    held = sorted({(span.rank, span.action.stage) for span in timeline.spans})
    threads = [
        {
            "name": "thread_name",
            "ph": "M",
            "pid": rank,
            "tid": stage,
            "args": {"name": f"stage {stage}"},
        }
        for rank, stage in held
    ]
    spans = [
        {
            "name": str(span.action),
            "cat": span.action.kind.name.lower(),
            "ph": "X",
            "pid": span.rank,
            "tid": span.action.stage,
            "ts": span.start_s * 1e6,
            "dur": (span.end_s - span.start_s) * 1e6,
            "args": {"microbatch": span.action.microbatch},
        }
        for span in timeline.spans
    ]
    return json.dumps({"traceEvents": [*names, *threads, *spans], "displayTimeUnit": "ms"})


def _several_stages(timeline: Timeline) -> bool:
    held = {(span.rank, span.action.stage) for span in timeline.spans}
    return len(held) > timeline.num_ranks


def _label(action: Action, *, with_stage: bool) -> str:
    return str(action) if with_stage else f"{action.kind}{action.microbatch}"
