from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raymlops.ledger import Ledger, Run, Version
from raymlops.ledger.mirror import Mirror
from raymlops.storage import Store
from tests.ledger.mirror.mirrored import JUNE, mirrored_run, register, text_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


def test_versions_and_aliases_follow_the_ledger(
    ledger: Ledger,
    store: Store,
    run: Run,
    mirror: Mirror,
    client: MlflowClient,
    tmp_path: Path,
) -> None:
    for number in (0, 1):
        register(ledger, store, run, Version(1, 0, number))
    register(ledger, store, run, Version(2, 0, 0))

    def move(alias: str, version: Version) -> None:
        ledger.registry.move("tumours", alias, version, who="ann", why="better", evidence={})

    move("champion", Version(1, 0, 0))
    move("challenger", Version(1, 0, 1))
    copied = mirror.catch_up()
    assert (copied.num_versions, copied.num_alias_moves) == (3, 2)

    versions = client.search_model_versions("name = 'tumours'")
    kept = ledger.registry.list("tumours")
    assert {version.tags["raymlops.version"]: int(version.version) for version in versions} == {
        "1.0.0": 1,
        "1.0.1": 2,
        "2.0.0": 3,
    }
    by_version = {version.tags["raymlops.version"]: version for version in versions}
    for row in kept:
        theirs = by_version[str(row.version)]
        assert theirs.run_id == mirrored_run(client, run).info.run_id
        assert theirs.tags["raymlops.bundle"] == row.bundle
        assert theirs.tags["raymlops.event_time"] == JUNE.isoformat()
    text = text_of(client, theirs.run_id, "bundles/2.0.0/model.onnx", tmp_path)
    assert text == "onnx of 2.0.0"
    assert theirs.source.endswith("/bundles/2.0.0")
    assert client.get_model_version_by_alias("tumours", "2-0-0").version == theirs.version

    def champion() -> str:
        found = client.get_model_version_by_alias("tumours", "champion")
        return str(found.tags["raymlops.version"])

    assert champion() == "1.0.0"
    move("champion", Version(1, 0, 1))
    move("champion", Version(2, 0, 0))
    assert mirror.catch_up().num_alias_moves == 2
    assert champion() == "2.0.0"
    move("champion", Version(1, 0, 1))  # a rollback
    mirror.catch_up()
    assert champion() == "1.0.1"
