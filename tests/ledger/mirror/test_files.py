from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert

from raymlops.ledger import Ledger, Run, schema
from raymlops.ledger.mirror import Mirror
from raymlops.storage import Store
from tests.ledger.mirror.mirrored import JUNE, NOTHING, mirrored_run, text_of, write

if TYPE_CHECKING:
    from mlflow import MlflowClient


def test_files_of_runs_are_copied_or_referred_to(
    ledger: Ledger, store: Store, run: Run, mlflow_url: str, client: MlflowClient, tmp_path: Path
) -> None:
    small, large, broken = (store.put(data) for data in (b"small", b"l" * 1001, b"broken"))
    blob = Path(store.uri) / "blobs" / broken[:2] / broken
    blob.write_bytes(b"other")
    files = {"plots/roc.txt": small, "large.bin": large, "broken": broken, "lost": "f" * 64}
    rows = [
        {"run_id": run.id, "name": name, "digest": digest, "size_bytes": 6, "at": JUNE}
        for name, digest in files.items()
    ]
    write(ledger, insert(schema.artifacts), rows)
    with Mirror(
        ledger, store, mlflow_url, artifacts=str(tmp_path / "files"), max_file_bytes=1000
    ) as mirror:
        assert mirror.catch_up().num_artifacts == 4
        assert vars(mirror.catch_up()) == NOTHING
    found = mirrored_run(client, run)
    key = found.info.run_id
    assert text_of(client, key, "plots/roc.txt", tmp_path) == "small"
    for name, why in (
        ("large.bin", "it has 1001 bytes, files are copied up to 1000"),
        ("broken", f"blob {broken} in {store.uri} now has digest"),
        ("lost", "the store does not hold it"),
    ):
        note = json.loads(text_of(client, key, f"{name}.reference.json", tmp_path))
        assert note["digest"] == files[name]
        assert note["not_copied_because"].startswith(why)
    for name, digest in files.items():
        assert found.data.tags[f"raymlops.artifact.{name}"] == digest
