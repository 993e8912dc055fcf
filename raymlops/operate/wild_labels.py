"""When so many labels are wild that they may be broken themselves, and when they no longer are."""

from __future__ import annotations

from typing import NamedTuple

from raymlops.data.error_cap import WILD_RATE
from raymlops.ledger.figures import shown_figure
from raymlops.monitor import WindowReport
from raymlops.operate.triggers import estimates_of

KIND = "labels"
WILD, TAME = "wild", "tame"

_MOST = 3 * WILD_RATE  # thrice what there is of heavy tails at training
_MIN_WILD = 3


class Said(NamedTuple):
    """What a window says of its labels: `outcome` is `WILD` or `TAME`."""

    outcome: str
    why: str
    evidence: dict[str, float | int | str]


def said_of_labels(report: WindowReport, version: str) -> Said | None:
    """Of those that joined the answers of `version`; None where they neither are more than a few,
    with 95 % confidence, nor few, or nobody knows how far off is wild."""
    found = estimates_of(version, report.performance)
    share = found.get("wild_labels")
    if share is None or not share.num_rows:
        return None
    num, cap = round(share.value * share.num_rows), found["error_cap"].value
    if num >= _MIN_WILD and share.low > _MOST:
        outcome = WILD
    elif share.value <= _MOST:
        outcome = TAME
    else:
        return None
    return Said(
        outcome,
        f"{num:,} of {share.num_rows:,} labels in {report.window} are farther than "
        f"{shown_figure(cap, 3)} from what {version} said; at training at most {WILD_RATE:.1%} "
        "were",
        {
            "window": str(report.window),
            "num_rows": share.num_rows,
            "wild_labels": share.value,
            "low": share.low,
            "high": share.high,
            "error_cap": cap,
        },
    )
