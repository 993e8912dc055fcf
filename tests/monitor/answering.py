"""What a replica would have told of requests that a model answered, without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import numpy as np

from raymlops.data import Columns
from raymlops.data.slices import cells_of
from raymlops.ledger import Labels, PackedPredictions, Pane, Prediction, number_labels
from raymlops.models import Bundle
from raymlops.serve.tap import TapSummary
from raymlops.serve.tap.latency import NUM_BUCKETS


@dataclass(frozen=True, kw_only=True)
class Request:
    """Rows that a version answered with numbers `said`, and what `came` true of them."""

    id: str
    time: datetime
    columns: Columns
    said: np.ndarray
    came: np.ndarray
    version: str = "1.0.0"
    arm: str = "champion"


def summary(
    model: str,
    bundle: Bundle,
    requests: Sequence[Request],
    *,
    sequence: int = 0,
    slice_by: tuple[str, ...] = (),
) -> TapSummary:
    """The message of all of them."""
    return TapSummary(
        model=model,
        replica="r",
        sequence=sequence,
        panes=tuple(_panes(model, bundle, requests)),
        predictions=PackedPredictions.of(
            [
                Prediction(
                    request_id=each.id,
                    model=model,
                    version=each.version,
                    arm=each.arm,
                    scores=each.said.astype("<f4").tobytes(),
                    num_rows=len(each.said),
                    served_at=each.time,
                    event_time=each.time,
                    replica="r",
                    slices=cells_of(bundle.profile, slice_by, each.columns).astype("<u2").tobytes(),
                )
                for each in requests
            ]
        ),
    )


def _panes(model: str, bundle: Bundle, requests: Sequence[Request]) -> Iterator[Pane]:
    def pane(each: Request) -> tuple[str, str, int]:
        return each.version, each.arm, each.time.toordinal()

    for (version, arm, _), group in groupby(sorted(requests, key=pane), key=pane):
        kin = list(group)
        counts = [bundle.profile.count(each.columns, each.said) for each in kin]
        yield Pane(
            model=model,
            version=version,
            arm=arm,
            day=kin[0].time.date(),
            num_rows=sum(len(each.said) for each in kin),
            num_failed=0,
            cells=np.sum(counts, axis=0),
            latency=(len(kin),) + (0,) * (NUM_BUCKETS - 1),
        )


def labels(model: str, requests: Sequence[Request], *, at: datetime) -> list[Labels]:
    """What came true of them, told then."""
    return [
        Labels(request_id=each.id, model=model, labels=number_labels(each.came), at=at)
        for each in requests
    ]
