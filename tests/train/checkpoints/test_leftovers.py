"""Checkpoints of runs that have ended are found, and those that anybody trains with are not."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from raymlops.ledger import Ledger
from raymlops.train import Trainer
from raymlops.train.checkpoints.leftovers import leftovers
from tests.train.checkpoints.test_resumption import left_behind, start
from tests.train.specs import MLP

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def written(folder: Path, *, days_ago: float) -> str:
    """A folder of a training with its weights and, written so long ago, two checkpoints."""
    for step in (40, 80):
        left_behind(folder, step=step)
    (folder / "weights.pt").write_bytes(b"w")
    at = (NOW - timedelta(days=days_ago)).timestamp()
    for path in folder.rglob("*"):
        os.utime(path, (at, at))
    return json.dumps(Trainer(MLP, home=folder)._record(str(folder)))


def test_old_checkpoints_go_and_weights_stay(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        old = start(ledger, config := written(tmp_path / "training" / "old", days_ago=9))
        ledger.runs.fail(old.id, "killed")
        again = start(ledger, config, old)
        ledger.runs.finish(again.id)
        new = start(ledger, written(tmp_path / "training" / "new", days_ago=1))
        ledger.runs.finish(new.id)
        ledger.runs.finish(start(ledger, "epochs: 3").id)  # of a table, without any

        (found,) = leftovers(ledger, tmp_path, before=NOW - timedelta(days=5))
        assert [run.id for run in found.runs] == [old.id, again.id]
        assert found.folder == str(tmp_path / "training" / "old")
        assert found.size_bytes > 0
        assert (
            list(leftovers(ledger, tmp_path, before=NOW - timedelta(days=5), model="other")) == []
        )
        found.remove()
        assert [path.name for path in (tmp_path / "training" / "old").iterdir()] == ["weights.pt"]
        assert len(list((tmp_path / "training" / "new").iterdir())) == 3
        assert list(leftovers(ledger, tmp_path, before=NOW - timedelta(days=5))) == []


def test_those_of_a_run_that_is_gone_on_with_are_left(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        old = start(ledger, config := written(tmp_path / "training" / "old", days_ago=9))
        ledger.runs.fail(old.id, "killed")
        start(ledger, config, old)
        assert list(leftovers(ledger, tmp_path, before=NOW)) == []


def test_a_copied_home_leaves_those_of_the_one_it_was_copied_from(tmp_path: Path) -> None:
    """Their folder is the one that is recorded: both would have lost theirs, the original first."""
    original, copied = tmp_path / "home", tmp_path / "copied"
    config = written(original / "training" / "old", days_ago=9)
    shutil.copytree(original, copied)
    with Ledger(f"sqlite:///{copied / 'ledger.db'}") as ledger:
        ledger.runs.finish(start(ledger, config).id)
        (found,) = leftovers(ledger, copied, before=NOW - timedelta(days=5))
        assert found.folder == str(copied / "training" / "old")
        found.remove()
        assert len(list((original / "training" / "old").iterdir())) == 3
        assert list(leftovers(ledger, tmp_path / "another", before=NOW)) == []
