"""What a replica tells the monitor: integer counts and finished predictions, in batches."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.ledger import Pane, Prediction


@dataclass(frozen=True, kw_only=True)
class TapSummary:
    """One fire-and-forget message; `sequence` counts a replica's messages from 0, without gaps,
    so that a repeated one is recognised."""

    model: str
    replica: str
    sequence: int
    panes: tuple[Pane, ...]
    predictions: tuple[Prediction, ...]
