"""A message to the monitor of what a replica has answered: counts, and the predictions."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Columns, Profile
from raymlops.data.slices import cells_of
from raymlops.ledger import PackedPredictions, Pane
from raymlops.serve.batching.outputs import concatenated
from raymlops.serve.tap.blocks import Block
from raymlops.serve.tap.latency import BOUNDS_S, NUM_BUCKETS
from raymlops.serve.tap.steps import Steps, finished
from raymlops.serve.tap.summary import TapSummary

_STEP_VALUES = 8192


def summarise(
    blocks: Sequence[Block],
    *,
    model: str,
    replica: str,
    sequence: int,
    slice_by: tuple[str, ...] = (),
) -> TapSummary:
    """The counts of each version, arm and day of event time, and the predictions themselves."""
    return finished(
        summarising(blocks, model=model, replica=replica, sequence=sequence, slice_by=slice_by)
    )


def summarising(
    blocks: Sequence[Block],
    *,
    model: str,
    replica: str,
    sequence: int,
    slice_by: tuple[str, ...] = (),
) -> Steps[TapSummary]:
    """The same in steps, each of which takes a tenth of a millisecond."""
    groups: dict[tuple[str, str, object], list[Block]] = defaultdict(list)
    for block in blocks:
        groups[block.version.version, block.arm, block.day].append(block)
    panes = []
    for group in groups.values():
        panes.append((yield from _pane(model, group)))
    predictions = _pack(model, replica, _answered(blocks), slice_by)
    yield
    return TapSummary(
        model=model,
        replica=replica,
        sequence=sequence,
        panes=tuple(panes),
        predictions=predictions,
    )


def _answered(blocks: Iterable[Block]) -> list[Block]:
    return [block for block in blocks if block.answered]


def _pane(model: str, blocks: list[Block]) -> Steps[Pane]:
    first, answered = blocks[0], _answered(blocks)
    profile = first.version.bundle.profile
    buckets = np.searchsorted(
        BOUNDS_S, _joined([block.latencies_s for block in answered], np.float64)
    )
    cells = np.zeros(profile.num_cells, dtype=np.int64)
    yield
    if answered:
        columns, scores = _columns(profile, answered), _scores(answered)
        yield
        counts = []
        num_columns = max(1, _STEP_VALUES // len(scores))
        for each in profile.counting(columns, scores):
            counts.append(each)
            if len(counts) % num_columns == 0:
                yield
        cells = np.concatenate(counts)
        yield
    return Pane(
        model=model,
        version=first.version.version,
        arm=first.arm,
        day=first.day,
        num_rows=sum(block.size for block in answered),
        num_failed=sum(len(block.ids) for block in blocks if not block.answered),
        cells=cells,
        latency=tuple(np.bincount(buckets, minlength=NUM_BUCKETS).tolist()),
    )


def _columns(profile: Profile, answered: Iterable[Block]) -> Columns:
    """Of blocks of one version, one value a row each; tensors of one shape are read together."""
    parts = [part for block in answered for part in block.columns]
    if not profile.projections:
        return concatenated(parts)
    kin = [list(each) for _, each in groupby(parts, key=_shapes)]
    return concatenated([profile.read(concatenated(each)) for each in kin])


def _shapes(columns: Columns) -> list[tuple[int, ...]]:
    return [column.shape[1:] for column in columns.values()]


def _scores(answered: Iterable[Block]) -> NDArray[np.float32]:
    """Of blocks of one version, [rows] or [rows, classes]."""
    scores = [part for block in answered for part in block.scores]
    return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)


def _flat_scores(answered: Iterable[Block]) -> NDArray[np.float32]:
    """Of blocks of any version, those of a row one after the other."""
    scores = [part.reshape(-1) for block in answered for part in block.scores]
    return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)


def _joined(parts: Iterable[array[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(b"".join(parts), dtype)


def _pack(
    model: str, replica: str, answered: Sequence[Block], slice_by: tuple[str, ...]
) -> PackedPredictions:
    arms = [(block.version.version, block.arm) for block in answered]
    numbers = {arm: number for number, arm in enumerate(dict.fromkeys(arms))}
    one_of = dict(zip(arms, answered, strict=True))  # all blocks of an arm are of one version
    widths = tuple([_width(one_of[arm]) for arm in numbers])
    num_requests = [len(block.ids) for block in answered]
    times = [block.at if block.event_times is None else block.event_times for block in answered]
    return PackedPredictions(
        model=model,
        replica=replica,
        request_ids=tuple(chain.from_iterable([block.ids for block in answered])),
        arms=tuple(numbers),
        arm_of=np.repeat(np.array([numbers[arm] for arm in arms], np.uint16), num_requests),
        num_rows=_joined([block.num_rows for block in answered], np.int32),
        scores=_scores(answered) if set(widths) <= {1} else _flat_scores(answered),
        served_at=_joined([block.at for block in answered], np.float64),
        event_time=_joined(times, np.float64),
        slices=_slices(answered, slice_by) if slice_by and answered else None,
        widths=widths,
    )


def _width(block: Block) -> int:
    """How many scores a row has."""
    first = block.scores[0]
    return 1 if first.ndim == 1 else first.shape[1]


def _slices(answered: Sequence[Block], slice_by: tuple[str, ...]) -> NDArray[np.uint16]:
    """[1 + features to slice by, rows]; neighbours of one version are looked up together."""
    parts = []
    for version, group in groupby(answered, key=lambda block: block.version):
        profile = version.bundle.profile
        parts.append(cells_of(profile, slice_by, _columns(profile, group)))
    return np.concatenate(parts, axis=1)
