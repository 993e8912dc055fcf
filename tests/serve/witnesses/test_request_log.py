from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from raymlops.ledger import Ledger
from raymlops.serve import BatchPolicy, Replica, ReplicaSpec, TrafficTable
from raymlops.serve.access import ApiKey, Keyring, digest_of
from raymlops.serve.http import HttpLimits
from raymlops.telemetry.logs import LogPolicy
from tests.serve.conftest import MODEL, World
from tests.serve.replica.application import INFER, body
from tests.serve.replica.surroundings import Gatherer, QuietBoard, Server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def published(
    world: World, folder: Path, policy: LogPolicy, keys_file: Path | None = None
) -> ReplicaSpec:
    """A replica whose champion is 1.0.0, and whose log is in that folder."""
    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TrafficTable.champion(MODEL, "1.0.0").to_dict())
    return ReplicaSpec(
        model=MODEL,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        batch=BatchPolicy(),
        http=HttpLimits(max_body_bytes=10_000),
        keys_file=keys_file,
        log=policy,
        log_folder=str(folder),
    )


def served(
    world: World, folder: Path, policy: LogPolicy, wrong: tuple[str, bytes] = (INFER, b"{")
) -> tuple[list[dict[str, Any]], Gatherer]:
    """The lines of a replica that was asked twice, once well, and what it counted."""
    spec = published(world, folder, policy)
    gatherer = Gatherer()

    async def test() -> None:
        replica = Replica(spec, board=QuietBoard(), sink=None, outlet=gatherer.put)
        await replica.load()
        async with Server(replica.app) as client:
            headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            good = await client.post(INFER, content=body(world), headers=headers)
            assert good.status_code == 200
            assert good.headers["traceparent"].split("-")[1] == TRACE
            bad = await client.post(wrong[0], content=wrong[1])
            assert bad.status_code == 400
            assert "traceparent" not in bad.headers

    asyncio.run(test())
    (path,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()], gatherer


def test_a_request_is_a_line_with_its_trace(world: World, tmp_path: Path) -> None:
    (good, bad), gatherer = served(world, tmp_path, LogPolicy(enabled=True, share=1.0))
    assert good["trace_id"] == TRACE
    assert (good["model"], good["version"], good["arm"]) == (MODEL, "1.0.0", "champion")
    assert (good["outcome"], good["status"], good["reason"]) == ("ok", 200, "share")
    assert good["shapes"]["radius"] == [3]
    parts = [good[f"{part}_s"] for part in ("queue", "batch", "engine")]
    assert all(part > 0 for part in parts)
    assert sum(parts) < good["duration_s"] < 10
    assert bad["engine_s"] is None
    assert "inputs" not in good
    assert (bad["outcome"], bad["status"], bad["reason"]) == ("refused", 400, "error")
    assert (bad["trace_id"], bad["version"], bad["shapes"]) == (None, None, {})
    assert "JSON" in bad["error"]
    assert gatherer.counts("raymlops_log_lines_total") == {
        (MODEL, "written"): 2,
        (MODEL, "left_out"): 0,
        (MODEL, "dropped"): 0,
    }


def test_a_refusal_that_quotes_what_is_no_unicode_is_logged(world: World, tmp_path: Path) -> None:
    wrong = ("/predict", rb'[{"\ud800": 1}]')
    lines, gatherer = served(world, tmp_path, LogPolicy(enabled=True, share=1.0), wrong)
    assert lines[-1]["status"] == 400
    assert "'?'" in lines[-1]["error"]
    assert gatherer.counts("raymlops_log_lines_total")[MODEL, "written"] == 2


def test_values_are_logged_where_that_is_wanted(world: World, tmp_path: Path) -> None:
    policy = LogPolicy(enabled=True, share=1.0, inputs=True, hidden=("size",), max_rows=2)
    (good, _), _ = served(world, tmp_path, policy)
    assert good["inputs"]["size"] == "***"
    assert good["inputs"]["radius"] == pytest.approx(world.columns["radius"][:2].tolist())


BY_POLICY = [
    (LogPolicy(enabled=True, share=0.0, inputs=True), "-83.25", "'4111 1111'"),
    (LogPolicy(enabled=True, share=0.0, inputs=True, hidden=("size",)), "-83.25", "'4111 1111'"),
    (LogPolicy(enabled=True, share=0.0, inputs=True, hidden=("radius",)), "***", "***"),
    (LogPolicy(enabled=True, share=0.0), "***", "***"),
]


@pytest.mark.parametrize(("policy", "number", "text"), BY_POLICY)
def test_an_error_quotes_a_value_where_values_are_logged(
    world: World, tmp_path: Path, policy: LogPolicy, number: str, text: str
) -> None:
    # They were quoted whatever the policy said of values and of hidden columns.
    errors = {
        b"-83.25": f"field 'radius': row 0 is {number}; it must be at least 0",
        b'"4111 1111"': f"field 'radius': row 0 is {text}, not FP64",
    }
    for value, error in errors.items():
        body = b'[{"radius": %b, "smoothness": 0.1}]' % value
        folder = tmp_path / str(len(value))
        lines, _ = served(world, folder, policy, ("/predict", body))
        assert [line["error"] for line in lines] == [error]


@pytest.mark.parametrize("body", [b'["4111 1111"]', b'"4111 1111"', b'{"records": "4111 1111"}'])
def test_an_error_quotes_nothing_that_belongs_to_no_column(
    world: World, tmp_path: Path, body: bytes
) -> None:
    lines, _ = served(world, tmp_path, LogPolicy(enabled=True), ("/predict", body))
    assert "4111" not in lines[-1]["error"]


def test_what_no_handler_sees_is_logged_and_counted(world: World, tmp_path: Path) -> None:
    # Guessed keys, and clients that their rate or a limit cut off, left no trace at all.
    keys = Keyring(tmp_path / "keys.json")
    keys.add(ApiKey(name="slow", digest=digest_of("slow"), rate_per_s=0.001))
    keys.add(ApiKey(name="other", digest=digest_of("other"), models=("other",)))
    keys.add(ApiKey(name="good", digest=digest_of("good")))
    spec = published(
        world,
        tmp_path,
        LogPolicy(enabled=True, share=0.0, slow_s=60.0),
        keys_file=tmp_path / "keys.json",
    )
    gatherer, asked = Gatherer(), list[int]()

    async def test() -> None:
        replica = Replica(spec, board=QuietBoard(), sink=None, outlet=gatherer.put)
        await replica.load()
        async with Server(replica.app) as client:
            for key, content, encoding in (
                ("guessed", b"", "identity"),
                ("other", b"", "identity"),
                ("slow", body(world), "identity"),
                ("slow", body(world), "identity"),
                ("good", bytes(10_001), "identity"),
                ("good", gzip.compress(bytes(10_001)), "gzip"),
                ("good", body(world), "br"),
            ):
                headers = {"x-api-key": key, "content-encoding": encoding}
                response = await client.post(INFER, content=content, headers=headers)
                asked.append(response.status_code)

    asyncio.run(test())
    assert asked == [401, 403, 200, 429, 413, 413, 415]
    (path,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines] == [401, 403, 429, 413, 413, 415]
    assert lines[0]["error"] == "this key is not known"
    assert gatherer.counts("raymlops_request_errors_total") == {
        (MODEL, "none", "none", "unauthorized"): 2,
        (MODEL, "none", "none", "rate_limited"): 1,
        (MODEL, "none", "none", "too_large"): 2,
        (MODEL, "none", "none", "invalid"): 1,
    }


def test_of_good_requests_a_share_is_logged(world: World, tmp_path: Path) -> None:
    lines, gatherer = served(world, tmp_path, LogPolicy(enabled=True, share=0.0, slow_s=60.0))
    assert [line["outcome"] for line in lines] == ["refused"]
    assert gatherer.counts("raymlops_log_lines_total")[MODEL, "left_out"] == 1
