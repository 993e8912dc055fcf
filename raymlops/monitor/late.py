"""What comes for a window that was judged already: counted, and judged again where it is much.

Some days of events arrive late, as from a device that was offline or a replay, and labels nearly
always do. Measuring again costs nothing, looking for drift again a look of the reference's alpha;
so that is a decision, which names what was looked at and how often it was by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from raymlops.ledger import Decision, Ledger
from raymlops.monitor.judging import ALL, WindowReport
from raymlops.monitor.looks import KIND
from raymlops.monitor.performance import SCORED_SHARE
from raymlops.monitor.references import is_held_against_another
from raymlops.monitor.windows import Window

WHO = "raymlops monitor"
_MUCH = 0.05
"""Of a window's rows: so far they may move a distribution, and less hardly matters."""


@dataclass(frozen=True, kw_only=True)
class Late:
    """What came for `window` since it was judged last.

    Rows by version, of `num_rows` there are now; versions that had too few to look for drift are
    among them once they have enough. Of labelled rows, `labelled` of `num_labelled`.
    """

    window: Window
    rows: Mapping[str, int]
    num_rows: Mapping[str, int]
    labelled: int
    num_labelled: int

    @property
    def versions(self) -> tuple[str, ...]:
        """Those of which so much came that they may be judged otherwise."""
        return tuple(
            version for version, late in self.rows.items() if late >= _MUCH * self.num_rows[version]
        )

    @property
    def has_labels(self) -> bool:
        """Whether performance may be measured otherwise."""
        return self.labelled > 0 and self.labelled >= _MUCH * self.num_labelled

    @property
    def evidence(self) -> dict[str, Any]:
        return {
            "window": str(self.window),
            "window_end": self.window.end.isoformat(),
            "num_rows": dict(self.num_rows),
            "late_rows": dict(self.rows),
            "num_labelled": self.num_labelled,
            "late_labelled": self.labelled,
            "looked_at": list(self.versions),
        }

    def __str__(self) -> str:
        rows = f"{sum(self.rows.values()):,} of {sum(self.num_rows.values()):,} rows"
        labels = f"the labels of {self.labelled:,} of {self.num_labelled:,}"
        return f"{rows} of {self.window}, and {labels}, came after it was judged"


def late_rows(ledger: Ledger, report: WindowReport) -> dict[str, int]:
    """By version, how many came since drift was looked for; none is no key."""
    judged = {row.version: row.num_rows for row in report.drift}
    start, end = report.window.start.date(), report.window.end.date()
    now = ledger.observations.count_rows(report.model, start=start, end=end)
    return {
        version: late
        for version, num_rows in judged.items()
        if (late := now.get(version, 0) - num_rows) > 0
    }


def late_labels(ledger: Ledger, report: WindowReport) -> int:
    """Of how many rows the labels came since performance was measured."""
    window = report.window
    now = ledger.observations.count_labelled(report.model, start=window.start, end=window.end)
    return max(0, now - _labelled_then(report))


class Days:
    """What the ledger holds now of the days of `model`, each counted once: windows that slide, of
    which there is one for each day, share all but one."""

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._observations = ledger.observations
        self._model = model
        self._rows: dict[date, Mapping[str, int]] = {}
        self._labelled: dict[date, int] = {}

    def rows(self, window: Window) -> dict[str, int]:
        """How many of a window there are, by version."""
        found: Counter[str] = Counter()
        for day in window.days:
            if day.start.date() not in self._rows:
                self._rows[day.start.date()] = self._observations.count_rows(
                    self._model, start=day.start.date(), end=day.end.date()
                )
            found.update(self._rows[day.start.date()])
        return dict(found)

    def labelled(self, window: Window) -> int:
        """Of how many rows of a window the labels are known."""
        for day in window.days:
            if day.start.date() not in self._labelled:
                self._labelled[day.start.date()] = self._observations.count_labelled(
                    self._model, start=day.start, end=day.end
                )
        return sum(self._labelled[day.start.date()] for day in window.days)


def late_in(ledger: Ledger, report: WindowReport, days: Days, *, min_rows: int) -> Late:
    """What came late for a window; a version that was held against another reference then keeps
    what was found of it."""
    judged = {row.version: row.num_rows for row in report.drift}
    now = days.rows(report.window)
    rows = {
        version: late
        for version, num_rows in now.items()
        if num_rows >= min_rows
        and (late := num_rows - judged.get(version, 0)) > 0
        and not is_held_against_another(ledger, report.model, version, report.window.end)
    }
    num_labelled = days.labelled(report.window)
    return Late(
        window=report.window,
        rows=rows,
        num_rows=now,
        labelled=max(0, num_labelled - _labelled_then(report)),
        num_labelled=num_labelled,
    )


def decide_again(ledger: Ledger, model: str, late: Late, now: datetime) -> Decision:
    return ledger.decisions.add(
        model=model,
        kind=KIND,
        outcome="judged again",
        who=WHO,
        why=str(late),
        evidence=late.evidence,
        event_time=now,
    )


def _labelled_then(report: WindowReport) -> int:
    """Windows that were judged before there was the share tell the rows of any metric."""
    of_all = [row for row in report.performance if row.version == ALL]
    said = [row.num_rows for row in of_all if row.metric == SCORED_SHARE]
    return said[0] if said else max((row.num_rows for row in of_all), default=0)
