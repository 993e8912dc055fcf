"""Where the time of a request goes, and how large the batches are."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

import msgspec

from raymlops.telemetry.catalogue import ROWS_BOUNDS


class Times(msgspec.Struct, kw_only=True, eq=False):
    """Seconds of one request, negative while they are unknown.

    since      closed              began     ended          answered
      │──queue───│──batch: together──│──engine──│──batch: apart──│
    """

    queue_s: float = -1.0
    batch_s: float = -1.0
    engine_s: float = -1.0


@dataclass(slots=True, eq=False)
class BatchSizes:
    """How many batches were begun by their rows, within `ROWS_BOUNDS`."""

    num_rows: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(ROWS_BOUNDS) + 1))

    def note(self, rows: int) -> None:
        self.num_rows += rows
        self.buckets[bisect_left(ROWS_BOUNDS, rows)] += 1
