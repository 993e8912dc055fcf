"""How often drift of a version was looked for: in every window, and again in those that rows came
late for. Every look costs some of the reference's alpha."""

from __future__ import annotations

from collections.abc import Sequence

from raymlops.ledger import Decision, Ledger

KIND = "window"
"""Of decisions to judge a window again; their evidence says what drift is looked for of."""


def judged_again(ledger: Ledger, model: str) -> Sequence[Decision]:
    """The decisions to judge a window of `model` again, in order."""
    return ledger.decisions.list(model=model, kind=KIND)


def num_again(decisions: Sequence[Decision], version: str, *, after: int) -> int:
    """How many of these, but for those up to decision `after`, looked at drift of `version`."""
    return sum(each.id > after and version in each.evidence["looked_at"] for each in decisions)
