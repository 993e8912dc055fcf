"""Runs of nothing that was trained, for what is made of runs."""

from __future__ import annotations

from raymlops.ledger import Code, Ledger, Run


def start_training(ledger: Ledger, model: str) -> Run:
    return ledger.runs.start(
        kind="train",
        model=model,
        params={},
        code=Code(commit="c" * 40, dirty_digest=None),
        config="{}",
        environment="",
        inputs={},
    )
