from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raymlops.ledger import Ledger
from raymlops.serve import TrafficTable
from tests.cli.commands import run, run_json


def test_champions_are_promoted_and_rolled_back(home: Path, registered: str) -> None:
    run("promote", "tumours@1.0.0", "--why", "first", "--home", home)
    run("promote", "tumours@1.0.1", "--why", "better", "--home", home)
    assert [row["aliases"] for row in run_json("models", "list", "--home", home)] == [
        [],
        ["champion"],
    ]
    moved = run_json("rollback", "tumours", "--why", "it was not", "--home", home)
    assert moved["version"] == {"major": 1, "minor": 0, "patch": 0}
    shown = run("at", "tumours", "--home", home)
    assert "tumours 1.0.0" in shown
    assert "it was not" in shown
    run("promote", "tumours@1.0.1", "--why", "it is again", "--home", home)
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        ledger.releases.publish("tumours", TrafficTable.champion("tumours", "1.0.1").to_dict())
    told = run("promote", "tumours@1.0.0", "--why", "once more", "--home", home)
    until = "until `watch` sees this or `raymlops deploy tumours@champion`"
    assert told == f"champion  tumours 1.0.0\n traffic  1.0.1, {until}\n"
    told = run("promote", "tumours@1.0.1", "--why", "it is again", "--home", home)
    assert told == "champion  tumours 1.0.1\n"
    told = run("rollback", "tumours", "--why", "it is not", "--home", home)
    assert "traffic  goes to 1.0.0, in about 20 s at every replica" in told
    told = run("decisions", "tumours", "--home", home)
    assert told.index("first") < told.index("better") < told.index("it was not")
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        (made, *_) = ledger.decisions.list(model="tumours")
        ledger.decisions.add(
            model="tumours", kind="gate", outcome="1.0.1 refused", who="me", why="worse",
            evidence={}, event_time=datetime(2013, 7, 5, tzinfo=UTC),
        )  # fmt: skip
    told = run("decisions", "tumours", "--home", home)
    assert f"{made.at:%Y-%m-%d %H:%M} alias  champion -> 1.0.0: first" in told
    assert "gate  1.0.1 refused: worse (in the data's time 2013-07-05)" in told
