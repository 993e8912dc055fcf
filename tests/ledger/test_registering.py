"""Many processes register at once, and are killed while they do."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from itertools import pairwise
from pathlib import Path

import pytest

from raymlops.ledger import Bump, Ledger, Run, Version
from raymlops.models import Field, Signature
from raymlops.storage import Store
from tests.endurance import endurance
from tests.ledger.writers import (
    processes,
    register_many,
    register_signatures,
    register_until_killed,
    run_at_once,
)

AT_ONCE = 8


@pytest.mark.parametrize("num_versions", [200, endurance(1000)])
def test_eight_processes_get_distinct_versions(ledger: Ledger, run: Run, num_versions: int) -> None:
    run_at_once(register_many, [(ledger.url, run.id, num_versions // 8)] * 8)
    versions = [version.version for version in ledger.registry.list("tumours")]
    assert versions == [Version(1, 0, patch) for patch in range(num_versions)]


def test_a_bump_is_from_the_version_before_however_many_register(ledger: Ledger, run: Run) -> None:
    narrow, wide = (
        Signature(
            inputs=(Field(name="mean_radius", datatype="FP64", low=0, high=high),),
            outputs=(Field(name="probability", datatype="FP32"),),
        ).to_json()
        for high in (50, 100)
    )
    texts = [narrow, wide, wide, narrow]
    run_at_once(register_signatures, [(ledger.url, run.id, texts)] * 4)
    versions = sorted(ledger.registry.list("tumours"), key=lambda each: each.created_at)
    assert len(versions) == 16
    assert versions[0].version == Version(1, 0, 0)
    for before, after in pairwise(versions):
        part: Bump = "patch"
        if after.signature_digest != before.signature_digest:
            part = "minor" if ledger.text(after.signature_digest) == wide else "major"
        assert after.version == before.version.bump(part)


@pytest.mark.parametrize("num_kills", [24, endurance(200)])
def test_what_was_acknowledged_survives_kills(
    ledger: Ledger, run: Run, store: Store, tmp_path: Path, num_kills: int
) -> None:
    chance = random.Random(0)
    landed, number = 0, 0
    acknowledged: dict[str, str] = {}
    while landed < num_kills:
        told = [tmp_path / f"told-{number + each}" for each in range(AT_ONCE)]
        children = processes(
            register_until_killed,
            [
                (ledger.url, store.uri, run.id, path, number + each)
                for each, path in enumerate(told)
            ],
        )
        number += AT_ONCE
        # Each has begun, and is killed soon after it was told of none to two versions.
        waiting = [
            (child, path, 1 + chance.randrange(3))
            for child, path in zip(children, told, strict=True)
        ]
        while waiting:
            for child, path, num_lines in tuple(waiting):
                assert child.is_alive()
                if path.exists() and path.read_bytes().count(b"\n") >= num_lines:
                    time.sleep(chance.uniform(0, 0.005))
                    child.kill()
                    waiting.remove((child, path, num_lines))
            time.sleep(0.001)
        for child, path in zip(children, told, strict=True):
            child.join()
            landed += child.exitcode == -signal.SIGKILL
            lines = [line.split() for line in path.read_text().splitlines()[1:]]
            acknowledged.update(lines)

    assert len(acknowledged) > num_kills / 2
    held = {str(each.version): each for each in ledger.registry.list("tumours")}
    assert acknowledged.items() <= {name: each.bundle for name, each in held.items()}.items()
    # Also those nobody was told of are whole: numbered without a gap, with their bundle and seal.
    assert list(held) == [f"1.0.{patch}" for patch in range(len(held))]
    assert all("model.onnx" in store.read_tree(each.bundle) for each in held.values())
    assert {ledger.text(each.signature_digest) for each in held.values()} <= {'"0"', '"1"', '"2"'}
    moves = ledger.registry.moves("tumours", "champion")
    assert all(str(move.version) in held for move in moves)
    # The dataset of `run` has a made-up manifest.
    problems = [each for each in ledger.verify(store).problems if "dataset tumours 1" not in each]
    assert problems == []
    if ledger.database.backend == "sqlite":
        with sqlite3.connect(ledger.url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
