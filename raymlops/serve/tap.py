"""What a replica tells the monitor: integer counts and finished predictions, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import overload

import numpy as np
from numpy.typing import NDArray

from raymlops.ledger import Pane, Prediction


@dataclass(frozen=True, kw_only=True)
class TapSummary:
    """One fire-and-forget message; `sequence` counts a replica's messages from 0, without gaps,
    so that a repeated one is recognised."""

    model: str
    replica: str
    sequence: int
    panes: tuple[Pane, ...]
    predictions: Sequence[Prediction]


@dataclass(frozen=True, kw_only=True)
class PackedPredictions(Sequence[Prediction]):
    """Predictions of one replica by column, each made only where it is looked at.

    A replica packs and sends a thousand for what ten objects would cost it; whoever receives
    them has the time to unpack. `arms` are the (version, arm) that `arm_of` [requests] names,
    `scores` [rows] those of all requests, one after the other; times are seconds since 1970.
    """

    model: str
    replica: str
    request_ids: tuple[str, ...]
    arms: tuple[tuple[str, str], ...]
    arm_of: NDArray[np.uint16]
    num_rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    served_at: NDArray[np.float64]
    event_time: NDArray[np.float64]
    slices: NDArray[np.uint16] | None = None
    """[features to slice by, rows], see `Prediction`."""

    def __len__(self) -> int:
        return len(self.request_ids)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | Sequence[Prediction]:
        if isinstance(index, slice):
            return tuple(self)[index]
        number = range(len(self))[index]
        start = int(self.num_rows[:number].sum())
        return self._at(number, start)

    def __iter__(self) -> Iterator[Prediction]:
        start = 0
        for number, size in enumerate(self.num_rows.tolist()):
            yield self._at(number, start)
            start += size

    def _at(self, number: int, start: int) -> Prediction:
        version, arm = self.arms[self.arm_of[number]]
        rows = slice(start, start + int(self.num_rows[number]))
        slices = None if self.slices is None else self.slices[:, rows].astype("<u2").tobytes()
        return Prediction(
            request_id=self.request_ids[number],
            model=self.model,
            version=version,
            arm=arm,
            scores=self.scores[rows].astype("<f4").tobytes(),
            num_rows=rows.stop - rows.start,
            served_at=datetime.fromtimestamp(self.served_at[number], UTC),
            event_time=datetime.fromtimestamp(self.event_time[number], UTC),
            replica=self.replica,
            slices=slices,
        )
