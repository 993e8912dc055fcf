"""What the sentinel writes down of the decisions it reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from raymlops.operate import Workspace, open_sentinel
from raymlops.operate.sentinel import decision_log


def test_a_line_says_that_it_is_a_decision_and_of_which_kind(tmp_path: Path) -> None:
    """Its own kind took the place of what it is, so nobody could tell it from lines of requests."""
    with Workspace.open(overrides=[f"home={tmp_path}"]) as workspace:
        lines = decision_log(workspace)
        lines.start()
        sentinel = open_sentinel(workspace, lines)
        sentinel.begin()
        workspace.ledger.decisions.add(
            model="flights", kind="gate", outcome="1.0.1 refused", who="me", why="worse",
            evidence={"low": 0.1}, event_time=datetime(2013, 7, 1, tzinfo=UTC),
        )  # fmt: skip
        sentinel.look(datetime.now(UTC))
        lines.close()
    (line,) = (tmp_path / "logs" / "decisions.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["kind"], told["decision"], told["outcome"]) == (
        "decision", "gate", "1.0.1 refused",
    )  # fmt: skip
    assert (told["event_time"], told["evidence"]) == ("2013-07-01T00:00:00Z", {"low": 0.1})
