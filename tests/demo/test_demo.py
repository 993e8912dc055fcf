"""The whole demo on a part of the year, as a person starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from raymlops.demo.narrator import Narrator
from raymlops.demo.story import DemoPlan, run_demo
from raymlops.ledger import Ledger, at, why
from raymlops.ledger.describe import lineage_lines
from tests.endurance import endurance

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def running_children() -> set[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return {child for child in children if child.status() != psutil.STATUS_ZOMBIE}


def test_a_model_lives_from_first_rows_to_its_successor(tmp_path: Path) -> None:
    """June and July of the replay: the bad month, the challenger, its canary and promotion."""
    from rich.console import Console

    others = running_children()
    log = tmp_path / "log"
    plan = DemoPlan(
        live_from=datetime(2013, 6, 10, tzinfo=UTC), live_until=datetime(2013, 7, 18, tzinfo=UTC)
    )
    with log.open("w") as file:
        narrator = Narrator(Console(file=file, width=160))
        result = run_demo(narrator, home=tmp_path / "home", plan=plan, keep=False)

    assert result.tally.failures == []
    assert result.tally.num_sent == sum(result.tally.by_arm.values())
    told = log.read_text()
    assert "rule 'at most 100' is broken by" in told
    assert "refused with 400: field 'humid': row 1 is 155; it must be at most 100" in told
    assert "refused with 400: field 'carrier': missing" in told

    report = result.report.read_text()
    assert report.count("<svg") >= 4
    assert not re.search(r"""(src|href)=["']https?://""", report)  # it stands alone
    with Ledger(f"sqlite:///{result.home / 'ledger.db'}") as ledger:
        kinds = [d.kind for d in ledger.decisions.list(model="flights")]
        assert kinds[:3] == ["alias", "trigger", "gate"]
        gate = ledger.decisions.list(model="flights", kind="gate")[0]
        assert gate.outcome == "1.0.1 passed"
        assert gate.evidence["high"] < 0
        assert [release.status for release in ledger.releases.list("flights")] == ["promoted"]
        before, after = (
            at(ledger, "flights", datetime(2013, month, day, tzinfo=UTC), event_time=True)
            for month, day in ((6, 15), (7, 17))
        )
        assert (str(before.version), str(after.version)) == ("flights 1.0.0", "flights 1.0.1")
        # Every answered request is in the ledger, the one shown before the replay included.
        assert ledger.observations.count_predictions("flights") == result.tally.num_sent + 1
        chain = dict(lineage_lines(why(ledger, result.tally.last_request["canary"])))
        assert chain["version"].startswith("flights 1.0.1, bundle")
        assert chain["train data"].startswith("flights version 2, ")
    assert running_children() <= others  # of which some may have ended meanwhile


# Ray runs from the first act on; before the third was a training, with its own handler of SIGINT.
@pytest.mark.parametrize("act", ["1. Data", endurance("3. Register")])
def test_ctrl_c_ends_it_cleanly(act: str, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "raymlops", "demo", "--home", str(tmp_path / "home")]
    with subprocess.Popen(
        command,
        env=os.environ | {"RAYMLOPS__TRAIN__EPOCHS": "1", "RAYMLOPS__PLAN__DATA": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if act in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        assert family, "Ray should be running by now"
        os.kill(process.pid, signal.SIGINT)
        told = process.stdout.read()
        assert process.wait(timeout=60) == 130, told
    assert "Traceback" not in told
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
