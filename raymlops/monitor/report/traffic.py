"""Traffic by day, drawn: what each version and arm answered, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time

from raymlops.ledger import Pane
from raymlops.monitor import plots

_Days = dict[date, int]


def traffic_panels(panes: Sequence[Pane], hues: Mapping[str, int]) -> tuple[plots.Panel, ...]:
    """Requests a day by version and arm; a second panel where any failed."""
    answered: dict[tuple[str, str], _Days] = {}
    failed: dict[tuple[str, str], _Days] = {}
    for pane in panes:
        arm = (pane.version, pane.arm)
        answered.setdefault(arm, {})[pane.day] = sum(pane.latency)
        failed.setdefault(arm, {})[pane.day] = pane.num_failed
    panels = [
        plots.Panel(title="Requests answered a day", curves=_curves(answered, hues), is_count=True)
    ]
    if any(number for days in failed.values() for number in days.values()):
        title = "Requests that failed a day"
        panels.append(
            plots.Panel(title=title, curves=_curves(failed, hues), has_legend=False, is_count=True)
        )
    return tuple(panels)


def _curves(
    arms: Mapping[tuple[str, str], _Days], hues: Mapping[str, int]
) -> tuple[plots.Curve, ...]:
    return tuple(
        plots.Curve(
            label=version if arm == "champion" else f"{version} {arm}",
            x=[datetime.combine(day, time(12), UTC) for day in sorted(days)],
            y=[days[day] for day in sorted(days)],
            hue=hues.get(version, 0),
            hollow=arm != "champion",
        )
        for (version, arm), days in arms.items()
    )
