"""Predictions by column: a thousand of them are a few arrays, and no objects.

request_ids   q-1        q-2   q-3          arms    (1.0.0, champion) (1.0.1, canary)
num_rows      3          1     2            arm_of  0                 0   1
scores        .1 .7 .2   .9    .4 .4
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise, repeat
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from raymlops.ledger.records import Prediction
from raymlops.ledger.types import stored_times


@dataclass(frozen=True, kw_only=True)
class PackedPredictions(Sequence[Prediction]):
    """Predictions of one replica, each made only where it is looked at.

    `arms` are the (version, arm) that `arm_of` [requests] names, `scores` [rows] those of all
    requests, one after the other; times are seconds since 1970. A row has as many scores as
    `widths` says of its arm, one where that is left out.
    """

    model: str
    replica: str
    request_ids: Sequence[str]
    arms: Sequence[tuple[str, str]]
    arm_of: NDArray[np.uint16]
    num_rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    served_at: NDArray[np.float64]
    event_time: NDArray[np.float64]
    slices: NDArray[np.uint16] | None = None
    """[1 + features to slice by, rows], see `Prediction`."""
    widths: Sequence[int] = ()

    @classmethod
    def of(cls, predictions: Sequence[Prediction]) -> PackedPredictions:
        """At least one prediction, all of one model and replica, and sliced alike."""
        first = predictions[0]
        if others := {(each.model, each.replica) for each in predictions} - {
            (first.model, first.replica)
        }:
            raise ValueError(
                f"predictions are of {first.model} by {first.replica} and of "
                f"{' by '.join(min(others))}; pack those of each apart"
            )
        widths: dict[tuple[str, str], int] = {}
        for each in predictions:
            arm = each.version, each.arm
            widths[arm] = max(each.width, widths.get(arm, 1))
        numbers = {arm: number for number, arm in enumerate(widths)}
        num_rows = np.array([each.num_rows for each in predictions], dtype=np.int32)
        slices = None
        if first.slices is not None:
            parts = [np.frombuffer(each.slices or b"", dtype="<u2") for each in predictions]
            depth = sum(map(len, parts)) // max(1, int(num_rows.sum()))
            shaped = zip(parts, num_rows.tolist(), strict=True)
            slices = np.concatenate([part.reshape(depth, size) for part, size in shaped], axis=1)
        return cls(
            model=first.model,
            replica=first.replica,
            request_ids=[each.request_id for each in predictions],
            arms=list(numbers),
            arm_of=np.array(
                [numbers[each.version, each.arm] for each in predictions], dtype=np.uint16
            ),
            num_rows=num_rows,
            scores=np.frombuffer(b"".join([each.scores for each in predictions]), dtype="<f4"),
            served_at=np.array([each.served_at.timestamp() for each in predictions]),
            event_time=np.array([each.event_time.timestamp() for each in predictions]),
            slices=slices,
            widths=tuple(widths.values()),
        )

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
        rows = self._rows()
        return self._at(number, rows[number], self._scores(rows)[number])

    def __iter__(self) -> Iterator[Prediction]:
        rows = self._rows()
        for number, each in enumerate(zip(rows, self._scores(rows), strict=True)):
            yield self._at(number, *each)

    def width(self, number: int) -> int:
        """How many scores a row one of them has."""
        return self.widths[self.arm_of[number]] if self.widths else 1

    def happened(self, number: int) -> datetime:
        """The event time of one of them."""
        return datetime.fromtimestamp(self.event_time[number], UTC)

    def stored(self, backend: str) -> Iterator[tuple[Any, ...]]:
        """What a database keeps of each, in the order of `COLUMNS`."""
        number, spans = len(self), self._rows()
        raw = self.scores.astype("<f4", copy=False).tobytes()
        arms = [self.arms[each] for each in self.arm_of.tolist()]
        return zip(
            self.request_ids,
            repeat(self.model, number),
            [version for version, _ in arms],
            [arm for _, arm in arms],
            self.num_rows.tolist(),
            [raw[4 * start : 4 * end] for start, end in self._scores(spans)],
            stored_times(self.served_at, backend),
            stored_times(self.event_time, backend),
            repeat(self.replica, number),
            [self._slices(start, end) for start, end in spans],
            strict=True,
        )

    def _rows(self) -> list[tuple[int, int]]:
        """Where the rows of each request lie."""
        return _spans(self.num_rows)

    def _scores(self, rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Where its scores lie, given where its rows do."""
        if set(self.widths) <= {1}:
            return rows
        return _spans(self.num_rows * np.array(self.widths)[self.arm_of])

    def _slices(self, start: int, end: int) -> bytes | None:
        return None if self.slices is None else self.slices[:, start:end].astype("<u2").tobytes()

    def _at(self, number: int, rows: tuple[int, int], scores: tuple[int, int]) -> Prediction:
        version, arm = self.arms[self.arm_of[number]]
        return Prediction(
            request_id=self.request_ids[number],
            model=self.model,
            version=version,
            arm=arm,
            scores=self.scores[slice(*scores)].astype("<f4").tobytes(),
            num_rows=int(self.num_rows[number]),
            served_at=datetime.fromtimestamp(self.served_at[number], UTC),
            event_time=self.happened(number),
            replica=self.replica,
            slices=self._slices(*rows),
        )


def _spans(sizes: NDArray[np.integer]) -> list[tuple[int, int]]:
    """(start, end) of parts of these sizes, one after the other."""
    ends = [0, *accumulate(sizes.tolist())]
    return list(pairwise(ends))


COLUMNS = (
    "request_id", "model", "version", "arm", "num_rows", "scores", "served_at", "event_time",
    "replica", "slices",
)  # fmt: skip
