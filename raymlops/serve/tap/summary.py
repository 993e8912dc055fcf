"""What a replica tells the monitor: integer counts and finished predictions, in batches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.ledger import PackedPredictions, Pane

_COLUMNS = ("arm_of", "num_rows", "scores", "served_at", "event_time")
_LENGTH_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class TapSummary:
    """One fire-and-forget message; `sequence` counts a replica's messages from 0, without gaps,
    so that a repeated one is recognised."""

    model: str
    replica: str
    sequence: int
    panes: tuple[Pane, ...]
    predictions: PackedPredictions

    def to_bytes(self) -> bytes:
        """The summary as one buffer, which Ray passes on as it is; objects it would pickle.

            length of the head | head, as JSON | cells, pane by pane | columns of the predictions

        The head has the type and the length of each array behind it.
        """
        predictions, slices = self.predictions, self.predictions.slices
        arrays = [_small(pane.cells) for pane in self.panes]
        arrays += [getattr(predictions, name) for name in _COLUMNS]
        arrays += [] if slices is None else [slices.reshape(-1)]
        head = orjson.dumps(
            {
                "model": self.model,
                "replica": self.replica,
                "sequence": self.sequence,
                "panes": [
                    (each.version, each.arm, each.day, each.num_rows, each.num_failed, each.latency)
                    for each in self.panes
                ],
                "ids": predictions.request_ids,
                "arms": predictions.arms,
                "widths": predictions.widths,
                "num_slices": None if slices is None else len(slices),
                "arrays": [(array.dtype.str, len(array)) for array in arrays],
            }
        )
        length = len(head).to_bytes(_LENGTH_BYTES, sys.byteorder)
        return b"".join([length, head, *(array.tobytes() for array in arrays)])

    @classmethod
    def from_bytes(cls, message: bytes) -> TapSummary:
        """What `to_bytes` made this of."""
        start = _LENGTH_BYTES + int.from_bytes(message[:_LENGTH_BYTES], sys.byteorder)
        head = orjson.loads(message[_LENGTH_BYTES:start])
        arrays = _arrays(message, start, head["arrays"])
        num_panes = len(head["panes"])
        columns = dict(zip(_COLUMNS, arrays[num_panes:], strict=False))
        slices = None if head["num_slices"] is None else arrays[-1].reshape(head["num_slices"], -1)
        return cls(
            model=head["model"],
            replica=head["replica"],
            sequence=head["sequence"],
            panes=tuple(
                Pane(
                    model=head["model"],
                    version=version,
                    arm=arm,
                    day=date.fromisoformat(day),
                    num_rows=num_rows,
                    num_failed=num_failed,
                    cells=cells.astype(np.int64),
                    latency=tuple(latency),
                )
                for (version, arm, day, num_rows, num_failed, latency), cells in zip(
                    head["panes"], arrays, strict=False
                )
            ),
            predictions=PackedPredictions(
                model=head["model"],
                replica=head["replica"],
                request_ids=head["ids"],
                arms=[(version, arm) for version, arm in head["arms"]],
                slices=slices,
                widths=head.get("widths", ()),  # replicas of an earlier version tell none
                **columns,
            ),
        )


def _small(cells: NDArray[np.int64]) -> NDArray[Any]:
    """Counts in as few bytes as they need: those of a thousand rows in 2."""
    return cells.astype(np.min_scalar_type(int(cells.max(initial=0))))


def _arrays(message: bytes, start: int, kinds: Sequence[tuple[str, int]]) -> list[NDArray[Any]]:
    found = []
    for kind, length in kinds:
        found.append(np.frombuffer(message, dtype=kind, count=length, offset=start))
        start += found[-1].nbytes
    return found
