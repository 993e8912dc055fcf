"""The timeline of a step, left in the training's folder.

FOLDER/timeline.txt     a line a rank, and the bubble beside theory
       timeline.json    the same for ui.perfetto.dev
"""

from __future__ import annotations

from pathlib import Path

from raymlops.storage.files import save as write_file
from raymlops.train.pipeline import (
    PipelineLayout,
    Timeline,
    chrome_trace,
    draw,
    simulate,
    work_order,
)

TEXT = "timeline.txt"
_TRACE = "timeline.json"


def keep_timeline(timeline: Timeline, layout: PipelineLayout, folder: Path) -> None:
    """Writes what was recorded, and what the schedule alone would make of the same durations."""
    theory = simulate(work_order(layout), timeline.typical_durations())
    lines = (
        draw(timeline),
        f"{theory.bubble_share:.1%} bubble where each stage takes its median time and messages "
        "take none",
    )
    write_file(folder / TEXT, ["\n".join([*lines, ""]).encode()])
    write_file(folder / _TRACE, [chrome_trace(timeline).encode()])
