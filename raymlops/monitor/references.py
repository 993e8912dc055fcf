"""The reference windows are held against: the training data, until someone rolls it.

A season that stays, or a product that changed for good, need not alarm for ever: `roll_reference`
makes a stretch of traffic the new normal. That is a decision in the ledger, whose evidence names
the counts by their digest; the bins stay those of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time

import numpy as np
import orjson

from raymlops.data import SCORE, Profile
from raymlops.errors import DataError
from raymlops.ledger import Decision, Ledger, ModelVersion
from raymlops.models import Bundle
from raymlops.monitor.windows import Window
from raymlops.storage import Store

_KIND = "reference"
_ROLLED = "rolled"
_RESTORED = "restored"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A profile, the decision that made it the reference, 0 for none, and the event time up to
    which windows were held against another one."""

    profile: Profile
    since: datetime | None
    decision: int = 0


def reference_of(
    ledger: Ledger, store: Store, model: str, version: str, trained: Profile
) -> Reference:
    """What windows of a version are held against now; `trained` is the profile in its bundle."""
    last = _last_decision(ledger, model, version)
    if last is None:
        return Reference(profile=trained, since=None)
    if last.outcome == _RESTORED:
        return Reference(profile=trained, since=last.event_time, decision=last.id)
    counts = orjson.loads(store.get(last.evidence["counts"]))
    rolled = replace(trained, reference=tuple(counts))
    return Reference(profile=rolled, since=last.event_time, decision=last.id)


def is_held_against_another(ledger: Ledger, model: str, version: str, window_end: datetime) -> bool:
    """Whether a window of the version that ended then was held against another reference than the
    next one will be."""
    last = _last_decision(ledger, model, version)
    return last is not None and last.event_time is not None and window_end <= last.event_time


def roll_reference(
    ledger: Ledger,
    store: Store,
    version: ModelVersion,
    window: Window,
    *,
    min_rows: int,
    who: str,
    why: str,
) -> Decision:
    """Makes the traffic `version` answered on the days of `window` its reference.

    Windows judged from now on are held against it, and their looks are counted anew.

    Raises:
        DataError: these are no whole days of UTC, by which traffic is counted; or it answered fewer
            than `min_rows` rows then: hardly anything would differ from them for certain.
    """
    window = _whole_days(window)
    profile = Bundle.of_version(store, version).profile
    name = str(version.version)
    panes = ledger.observations.panes(
        version.model, start=window.start.date(), end=window.end.date()
    )
    cells = [pane.cells for pane in panes if pane.version == name]
    counts = np.sum([np.zeros(profile.num_cells, dtype=np.int64), *cells], axis=0)
    num_rows = int(counts[profile.cells[SCORE]].sum())
    if num_rows == 0:
        raise DataError(
            f"{version.model} {name} answered nothing in {window}, so that cannot be its "
            f"reference; its traffic lies {_extent(ledger, version)}"
        )
    if num_rows < min_rows:
        raise DataError(
            f"{version.model} {name} answered {num_rows:,} rows in {window}, and "
            f"monitor.drift.min_rows is {min_rows:,}: of so few hardly anything differs for "
            "certain; name more days"
        )
    evidence = {
        "version": name,
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "num_rows": num_rows,
        "counts": store.put(orjson.dumps(counts.tolist())),
    }
    return _decide(ledger, version, _ROLLED, evidence, at_least=window.end, who=who, why=why)


def _whole_days(window: Window) -> Window:
    """The same in UTC."""
    start, end = window.start.astimezone(UTC), window.end.astimezone(UTC)
    if start.time() != time() or end.time() != time() or start >= end:
        raise DataError(
            f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC are no whole days, and traffic is "
            "counted by days of UTC; name the first of them and the one after the last, such as "
            "2013-04-01 and 2013-07-01"
        )
    return Window(start, end)


def restore_reference(ledger: Ledger, version: ModelVersion, *, who: str, why: str) -> Decision:
    """Makes the training data the reference of `version` again.

    Raises:
        DataError: it is already.
    """
    last = _last_decision(ledger, version.model, str(version.version))
    if last is None or last.outcome == _RESTORED:
        raise DataError(
            f"{version.model} {version.version} is held against its training data already"
        )
    return _decide(
        ledger,
        version,
        _RESTORED,
        {"version": str(version.version)},
        at_least=last.event_time,
        who=who,
        why=why,
    )


def _decide(
    ledger: Ledger,
    version: ModelVersion,
    outcome: str,
    evidence: dict[str, object],
    *,
    at_least: datetime | None,
    who: str,
    why: str,
) -> Decision:
    """Takes effect after the last window judged: what was judged keeps its verdict."""
    judged = [
        row.window_end
        for row in ledger.observations.drift(version.model)
        if row.version == str(version.version)
    ]
    ends = [*judged, *([at_least] if at_least is not None else [])]
    return ledger.decisions.add(
        model=version.model,
        kind=_KIND,
        outcome=outcome,
        who=who,
        why=why,
        evidence=evidence,
        event_time=max(ends, default=None),
    )


def _last_decision(ledger: Ledger, model: str, version: str) -> Decision | None:
    decisions: Sequence[Decision] = ledger.decisions.list(model=model, kind=_KIND)
    of_version = [each for each in decisions if each.evidence["version"] == version]
    return of_version[-1] if of_version else None


def _extent(ledger: Ledger, version: ModelVersion) -> str:
    panes = ledger.observations.panes(version.model, start=date.min, end=date.max)
    days = [pane.day for pane in panes if pane.version == str(version.version)]
    return f"between {min(days)} and {max(days)}" if days else "nowhere yet"
