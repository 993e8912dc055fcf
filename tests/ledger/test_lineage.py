from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from raymlops.errors import NotFoundError
from raymlops.ledger import Ledger, ModelVersion, Prediction, Run, Version, at, why
from raymlops.ledger.describe import lineage_lines, reign_lines

JUNE = datetime(2013, 6, 1, tzinfo=UTC)


@pytest.fixture
def version(ledger: Ledger, run: Run) -> ModelVersion:
    version = ledger.registry.register("tumours", bundle="b" * 64, signature="{}", run_id=run.id)
    ledger.registry.register("tumours", bundle="b" * 64, signature="{}", run_id=run.id)
    for number, month in ((0, JUNE), (1, JUNE + timedelta(days=30))):
        ledger.registry.move(
            "tumours",
            "champion",
            Version(1, 0, number),
            who="operator",
            why=f"move {number}",
            evidence={"log_loss": 0.5},
            event_time=month,
        )
    return version


def test_why_follows_a_request_to_its_data(ledger: Ledger, version: ModelVersion, run: Run) -> None:
    ledger.observations.add_tap(
        "r1",
        0,
        [],
        [
            Prediction(
                request_id="abc",
                model="tumours",
                version="1.0.0",
                arm="canary",
                scores=b"",
                num_rows=3,
                served_at=JUNE,
                event_time=JUNE,
                replica="r1",
            )
        ],
    )
    lineage = why(ledger, "abc")
    assert lineage.version == version
    assert lineage.run.id == run.id
    assert [(role, d.version) for role, d in lineage.datasets] == [("train", 1)]
    labels = [label for label, _ in lineage_lines(lineage)]
    assert labels == [
        "prediction", "arm", "version", "run", "train data", "commit", "config", "environment",
    ]  # fmt: skip
    text = dict(lineage_lines(lineage))
    assert text["arm"] == "canary, on replica r1"
    assert text["commit"] == f"{'c' * 12}, nothing uncommitted"


def test_why_takes_a_version_too(ledger: Ledger, version: ModelVersion) -> None:
    assert why(ledger, "tumours@1.0.0").prediction is None
    with pytest.raises(NotFoundError, match="no prediction for request 'nobody'"):
        why(ledger, "nobody")


def test_at_answers_by_event_time_and_by_wall_time(ledger: Ledger, version: ModelVersion) -> None:
    def champion(day: int) -> str:
        moment = JUNE + timedelta(days=day)
        return str(at(ledger, "tumours", moment, event_time=True).version.version)

    assert champion(0) == "1.0.0"
    assert champion(29) == "1.0.0"
    assert champion(30) == "1.0.1"
    reign = at(ledger, "tumours", datetime.now(UTC))
    assert str(reign.version.version) == "1.0.1"
    assert dict(reign_lines(reign))["because"] == "move 1"
    assert dict(reign_lines(reign))["evidence"] == "log_loss 0.5"


def test_at_says_when_there_was_no_champion_yet(ledger: Ledger, version: ModelVersion) -> None:
    with pytest.raises(NotFoundError, match=r"no champion at 2013-05-31.*first came 2013-06-01"):
        at(ledger, "tumours", JUNE - timedelta(days=1), event_time=True)
    with pytest.raises(NotFoundError, match="it never had one"):
        at(ledger, "tumours", JUNE, alias="stable")
