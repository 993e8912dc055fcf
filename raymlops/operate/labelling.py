"""What came true, from a table of the user's: joined with what was predicted, by request id."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raymlops.data import Class, as_table, class_numbers, open_source, read_classes
from raymlops.data.classes import UNKNOWN
from raymlops.errors import DataError
from raymlops.ledger import Labels, class_labels, number_labels
from raymlops.models import Signature
from raymlops.operate.workspace import Workspace

_logger = logging.getLogger(__name__)

_AT_ONCE = 10_000  # requests a transaction
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What became of the labels of `num_requests` requests.

    `num_new` have some now that had none; `num_unknown` were left out, since a label of theirs is
    missing. `fates` count what became of the others by this, see `raymlops.ledger.joins`.
    """

    num_requests: int
    num_new: int
    num_unknown: int
    fates: dict[str, int]


def add_labels(
    workspace: Workspace,
    model: str,
    path: Path,
    *,
    now: datetime,
    id_column: str = "request_id",
    label_column: str = "label",
) -> Labelled:
    """Tells the ledger what came true of requests to `model`; needs no cluster.

    The table has a line a row: a request of several rows has as many lines, in the order of its
    rows. Labels may be told before their requests are known, twice, and in any order. `now` is when
    they were known: of a request long past, such as those of a replay, another than today. Those
    that come too late, and those that no longer may wait for their requests, are warned of.

    Raises:
        NotFoundError: the ledger holds no such model.
        DataError: the file cannot be read, lacks a column, names no request in a line, or a label
            is none that the model says: no finite number, below 0 where it ranks, neither 0 nor 1
            where it says a probability, all unknown to it where it tells classes apart; or all come
            too late.
    """
    newest = workspace.ledger.registry.newest(model)
    signature = Signature.from_json(workspace.ledger.text(newest.signature_digest))
    are_names = any(isinstance(each, str) for each in signature.classes)
    texts = [id_column, label_column] if are_names else [id_column]
    table = as_table(open_source(path, texts=texts))
    if missing := [name for name in (id_column, label_column) if name not in table.column_names]:
        raise DataError(
            f"{path} has no column '{missing[0]}', but {', '.join(table.column_names)}; say which "
            "it is with --id-column and --label-column"
        )
    found = list(_labels(table, model, now, id_column, label_column, signature))
    known = [each for each in found if each is not None]
    policy = workspace.settings.monitor.joins
    fates: Counter[str] = Counter()
    for start in range(0, len(known), _AT_ONCE):
        fates.update(
            workspace.ledger.observations.join_labels(known[start : start + _AT_ONCE], policy)
        )
    if num_late := fates["too_late"]:
        why = (
            f"the labels of {num_late:,} of {len(known):,} requests are left out: they came more "
            f"than {policy.max_age_days:g} days (monitor.joins.max_age_days) after the event "
            "times; set that higher, or say by --as-of when they were known"
        )
        if num_late == len(known):
            raise DataError(why)
        _logger.warning("%s", why)
    _warn_of_dropped(model, fates["overflow"], policy.max_waiting)
    return Labelled(
        num_requests=len(found),
        # Of more than may wait the newest are left, and those are of this file.
        num_new=fates["joined"] + min(fates["waiting"], policy.max_waiting),
        num_unknown=len(found) - len(known),
        fates=dict(fates),
    )


def _warn_of_dropped(model: str, num_dropped: int, max_waiting: int) -> None:
    if num_dropped:
        _logger.warning(
            "the labels of %s requests that %s has not answered are dropped, those that waited "
            "longest: no more than %s may wait (monitor.joins.max_waiting); set that higher, or "
            "tell them again once their requests were answered, by the same ids",
            f"{num_dropped:,}",
            model,
            f"{max_waiting:,}",
        )


def _labels(
    table: pa.Table,
    model: str,
    now: datetime,
    id_column: str,
    label_column: str,
    signature: Signature,
) -> Iterator[Labels | None]:
    """Of each request, in the order of their ids; None where a label is not known."""
    if missing := table[id_column].null_count:
        raise DataError(
            f"column '{id_column}' names no request in {missing} lines; leave these out"
        )
    ids = np.asarray(pc.cast(table[id_column], pa.string()).to_pylist(), dtype=str)
    values, encoded = _told(table[label_column], label_column, ids, signature, model)
    order = np.argsort(ids, kind="stable")
    ends = np.flatnonzero(ids[order][1:] != ids[order][:-1]) + 1
    for rows in np.split(order, ends) if len(ids) else ():
        of_request = values[rows]
        if _is_missing(of_request).any():
            yield None
            continue
        request_id = str(ids[rows[0]])
        yield Labels(request_id=request_id, model=model, labels=encoded(of_request), at=now)


def _told(
    column: pa.ChunkedArray, name: str, ids: NDArray[Any], signature: Signature, model: str
) -> tuple[NDArray[Any], Callable[[NDArray[Any]], bytes]]:
    """What the column says, missing values among it, and how the ledger keeps some of it."""
    if signature.classes:
        classes = read_classes(column, signature.classes[0], name=name)
        _warn_of_unknown(classes, name, signature.classes, model)
        return classes, lambda some: class_labels(some.tolist())
    if signature.is_regression and pa.types.is_boolean(column.type):
        raise DataError(
            f"column '{name}' holds true and false; {model} says numbers, and what came true of "
            "them is a number: say which column it is with --label-column"
        )
    values = _numbers(column, name)
    says_event = False
    if signature.is_ranking:
        is_odd = (values < 0) | (values > _LARGEST)
        why = "an order, and how relevant a row turned out is 0 (of no use) or more, below 3.4e38"
    elif signature.is_regression:
        is_odd = np.abs(values) > _LARGEST
        why = "numbers, and what came true of them is finite, below 3.4e38"
    else:
        says_event = True
        is_odd = ~np.isnan(values) & ~np.isin(values, (0.0, 1.0))
        why = "probabilities, and what came true of them is 0 or 1"
    if is_odd.any():
        line = int(np.argmax(is_odd))
        raise DataError(
            f"column '{name}' says {values[line]:g} of request '{ids[line]}'; {model} says {why}"
        )
    if says_event:
        return values, lambda some: some.astype(np.int8).tobytes()
    return values, number_labels


def _warn_of_unknown(values: NDArray[Any], name: str, classes: Sequence[Class], model: str) -> None:
    known = values[~_is_missing(values)]
    unknown = known[class_numbers(known, classes) == UNKNOWN]
    if not len(unknown):
        return
    why = (
        f"column '{name}' says {unknown[0]!r}, which is no class of {model}: it knows "
        f"{', '.join(map(repr, classes))}"
    )
    if len(unknown) == len(known):
        raise DataError(why)
    _logger.warning("%s; it was wrong in these %d of %d lines", why, len(unknown), len(known))


def _is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype == object:
        return np.array([value is None for value in values.tolist()], dtype=bool)
    return np.asarray(np.isnan(values))


def _numbers(column: pa.ChunkedArray, name: str) -> np.ndarray:
    try:
        numbers = pc.cast(column, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"column '{name}' is {column.type}; labels are 0 and 1, true and false, or numbers"
        ) from error
    return np.asarray(pc.fill_null(numbers, np.nan).to_numpy(), dtype=np.float64)
