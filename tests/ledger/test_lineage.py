from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from raymlops.errors import NotFoundError
from raymlops.ledger import (
    Code,
    Dataset,
    Ledger,
    ModelVersion,
    Prediction,
    Run,
    Version,
    at,
    datasets_of,
    diff,
    lineage_of,
    versions_from,
    why,
)
from raymlops.ledger.describe import (
    descent_lines,
    difference_lines,
    lineage_lines,
    reign_lines,
)

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


def test_code_that_no_commit_holds_is_told_as_what_it_is(
    ledger: Ledger, version: ModelVersion
) -> None:
    lineage = why(ledger, "tumours@1.0.0")
    told = []
    for commit in ("c" * 40, "none"):
        run = replace(lineage.run, code=Code(commit=commit, dirty_digest="d" * 64))
        told.append(dict(lineage_lines(replace(lineage, run=run)))["commit"])
    assert told == [
        f"{'c' * 12}, with uncommitted changes {'d' * 12}",
        f"none, no git checkout; digest of the folder's Python files {'d' * 12}",
    ]


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


def start(ledger: Ledger, name: str, parent: Run | None, *inputs: Dataset, **more: str) -> Run:
    texts = {"config": "{}", "environment": "python==3.11", **more}
    return ledger.runs.start(
        kind="train",
        model="m",
        params={"name": name},
        code=Code(commit=name, dirty_digest=None),
        inputs={f"input{number}": each for number, each in enumerate(inputs)},
        parent_id=parent.id if parent else None,
        **texts,
    )


def test_what_came_from_a_dataset_is_found_through_nested_runs(
    ledger: Ledger, dataset: Dataset
) -> None:
    other = ledger.datasets.add(
        name="tumours", digest="e" * 64, manifest="m", fields=(), num_rows=1, size_bytes=1,
        description="",
    )  # fmt: skip
    pipeline = start(ledger, "pipeline", None)
    search = start(ledger, "search", pipeline, dataset)
    trial = start(ledger, "trial", search)
    sibling = start(ledger, "sibling", pipeline, other)
    start(ledger, "alone", None)
    versions = {
        run.code.commit: ledger.registry.register("m", bundle="b", signature="{}", run_id=run.id)
        for run in (pipeline, search, trial, sibling)
    }

    def made_from(which: Dataset) -> list[str]:
        return [run.code.commit for run in versions_from(ledger, which).runs]

    assert made_from(dataset) == ["pipeline", "search", "trial"]
    assert made_from(other) == ["pipeline", "sibling"]
    assert versions_from(ledger, dataset).versions == tuple(
        versions[name] for name in ("pipeline", "search", "trial")
    )
    # The other way round says the same.
    for name, version in versions.items():
        origins = {each.version for _, _, each in datasets_of(ledger, version).datasets}
        assert origins == {d.version for d in (dataset, other) if name in made_from(d)}

    assert lineage_of(ledger, "tumours@1") == versions_from(ledger, dataset)
    assert lineage_of(ledger, "tumours") == versions_from(ledger, other)
    assert lineage_of(ledger, "m@1.0.2") == datasets_of(ledger, versions["trial"])
    assert ("version", f"m 1.0.3, by {sibling.id}") in descent_lines(lineage_of(ledger, "tumours"))
    lines = descent_lines(lineage_of(ledger, "m@1.0.2"))
    assert lines[1] == ("input0 data", f"tumours version 1, given to {search.id}")
    with pytest.raises(NotFoundError, match="no dataset nothing"):
        lineage_of(ledger, "nothing")


def test_the_difference_of_two_versions_names_everything_that_changed(
    ledger: Ledger, dataset: Dataset
) -> None:
    first = start(
        ledger, "one", None, dataset, config='{\n "lr": 1\n}', environment="python==3.11\nray==1"
    )
    second = start(
        ledger, "two", None, config='{\n "lr": 2\n}', environment="python==3.11\nray==2\nnew==1"
    )
    for run, loss, high in ((first, 0.5, 1), (second, 0.25, 2)):
        ledger.runs.log(run.id, {"loss": loss, "same": 1.0})
        signature = f'{{"inputs": [{{"name": "x", "high": {high}}}], "outputs": ["y"]}}'
        ledger.registry.register("m", bundle="b", signature=signature, run_id=run.id)
    difference = diff(ledger, "m@1.0.0", "m@1.0.1")
    assert difference.of("params") == {"name": ("one", "two")}
    assert difference.of("metrics") == {"loss": (0.5, 0.25)}
    assert difference.of("inputs") == {"input0": ("tumours 1", None)}
    assert difference.of("signature") == {"inputs.x.high": (1, 2)}
    assert difference.of("code") == {"commit": ("one", "two")}
    assert difference.of("environment") == {"ray": ("1", "2"), "new": (None, "1")}
    assert {'- "lr": 1', '+ "lr": 2'} <= set(difference.config)
    assert diff(ledger, first.id, second.id).rows == difference.rows
    assert ("metrics", "loss: 0.5 -> 0.25") in difference_lines(difference)
    assert difference_lines(diff(ledger, first.id, first.id)) == (
        ("same", f"{first.id} and {first.id}"),
    )
    with pytest.raises(NotFoundError, match="no run 'nobody'"):
        diff(ledger, "nobody", first.id)
