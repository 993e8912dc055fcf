from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.errors import ConfigError
from raymlops.serve.access import ApiKey, Gate, Keyring, digest_of, new_key
from raymlops.serve.access.bucket import TokenBucket
from raymlops.serve.web import Request

KEY, OTHER = "rml_one", "rml_other"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def gate(clock: Clock, **options: object) -> Gate:
    key = ApiKey(name="ci", digest=digest_of(KEY), **options)  # type: ignore[arg-type]
    return Gate("flights", [key], clock=clock)


def ask(gate: Gate, **headers: str) -> tuple[int, dict[str, str]]:
    request = Request("POST", "/v2/models/flights/infer", headers=headers)
    response = gate(request)
    return (200, {}) if response is None else (response.status, dict(response.headers))


def test_a_key_lets_in_by_either_header() -> None:
    checked = gate(Clock())
    for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
        for _ in range(2):
            assert ask(checked, **headers)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic abc"},
        {"authorization": "Bearer"},
        {"x-api-key": OTHER},
        {"x-api-key": digest_of(KEY)},
        {"x-api-key": "\ud800"},
    ],
)
def test_anything_else_does_not(headers: dict[str, str]) -> None:
    status, answered = ask(gate(Clock()), **headers)
    assert (status, answered) == (401, {"www-authenticate": "Bearer"})


def test_a_key_is_good_for_its_models() -> None:
    assert ask(gate(Clock(), models=("trains",)), **{"x-api-key": KEY})[0] == 403
    assert ask(gate(Clock(), models=("trains", "flights")), **{"x-api-key": KEY})[0] == 200


def test_health_needs_no_key() -> None:
    assert gate(Clock())(Request("GET", "/v2/health/ready")) is None


def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    clock = Clock()
    limited = gate(clock, rate_per_s=0.5, burst=2.0)
    statuses = [ask(limited, **{"x-api-key": KEY}) for _ in range(3)]
    assert [status for status, _ in statuses] == [200, 200, 429]
    assert statuses[2][1] == {"retry-after": "2"}
    clock.now = 2.0
    assert ask(limited, **{"x-api-key": KEY})[0] == 200


def test_a_ticket_says_what_holds_now() -> None:
    # A server reads a head once, and asks again whenever it comes.
    clock = Clock()
    checked = gate(clock)
    ticket = checked.ticket(Request("POST", "/v2/models/flights/infer", headers={"x-api-key": KEY}))
    assert ticket() is None
    checked.trust([])
    refusal = ticket()
    assert refusal is not None
    assert refusal.status == 401
    checked.trust([ApiKey(name="ci", digest=digest_of(KEY), rate_per_s=1.0)])
    assert [getattr(ticket(), "status", 200) for _ in range(2)] == [200, 429]
    clock.now = 1.0
    assert ticket() is None


@given(
    rate=st.floats(0.1, 100.0),
    burst=st.floats(1.0, 50.0),
    waits=st.lists(st.floats(0.0, 2.0), max_size=100),
)
def test_no_more_pass_than_the_burst_and_the_rate_allow(
    rate: float, burst: float, waits: list[float]
) -> None:
    bucket, now, passed = TokenBucket(rate, burst, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        before = bucket.take(now)
        passed += before == 0.0
        assert before >= 0.0
    assert passed <= burst + rate * now + 1e-6


def test_a_wait_that_was_told_is_enough() -> None:
    bucket = TokenBucket(3.0, 1.0, 0.0)
    assert bucket.take(0.0) == 0.0
    wait = bucket.take(0.1)
    assert bucket.take(0.1 + wait + 1e-9) == 0.0


def test_keys_are_new_and_their_digests_are_all_that_is_kept() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert first.startswith("rml_")
    key = ApiKey(name="ci", digest=digest_of(first))
    assert first not in repr(key)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "a key has no name"),
        ({"digest": "rml_key"}, r"the digest of key 'ci' is 'rml_key'\.\.\., not 64"),
        ({"rate_per_s": -1.0}, r"key 'ci' has rate_per_s -1\.0; give 0 for no limit"),
        ({"rate_per_s": nan}, "key 'ci' has rate_per_s nan"),
        ({"rate_per_s": inf}, "key 'ci' has rate_per_s inf"),
        ({"burst": nan}, "key 'ci' has burst nan"),
        ({"burst": 0.5}, r"burst 0\.5, no request would pass"),
    ],
)
def test_impossible_keys_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ApiKey(**{"name": "ci", "digest": "0" * 64, **options})  # type: ignore[arg-type]


def test_a_file_of_keys_is_made_and_changed_as_a_whole(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "deep" / "keys.json")
    first = ApiKey(name="ci", digest=digest_of(KEY), models=("flights",), rate_per_s=5.0)
    ring.add(first)
    ring.add(ApiKey(name="app", digest=digest_of(OTHER)))
    assert (tmp_path / "deep" / "keys.json").stat().st_mode & 0o777 == 0o600
    assert [key.name for key in ring.read()] == ["ci", "app"]
    assert ring.read()[0] == first
    with pytest.raises(ConfigError, match="has a key 'ci' already; revoke it first"):
        ring.add(first)
    ring.revoke("ci")
    assert [key.name for key in ring.read()] == ["app"]
    with pytest.raises(ConfigError, match="has no key 'ci'; there are: app"):
        ring.revoke("ci")


def test_keys_made_and_revoked_at_once_are_all_made_and_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for number in range(4):
        Keyring(path).add(ApiKey(name=f"old{number}", digest=digest_of(OTHER)))
    together = threading.Barrier(8)

    def make(number: int) -> None:
        together.wait()
        Keyring(path).add(ApiKey(name=f"new{number}", digest=digest_of(KEY)))

    def revoke(number: int) -> None:
        together.wait()
        Keyring(path).revoke(f"old{number}")

    with ThreadPoolExecutor(8) as threads:
        changes = [threads.submit(each, n) for each in (make, revoke) for n in range(4)]
    for change in changes:
        change.result()
    assert {key.name for key in Keyring(path).read()} == {"new0", "new1", "new2", "new3"}


def test_a_file_that_holds_no_keys_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`raymlops keys make NAME` writes one"):
        Keyring(tmp_path / "nothing").read()


def test_a_revoked_key_is_let_in_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("raymlops.serve.access.keyring._PERIOD_S", 0.005)
    ring = Keyring(tmp_path / "keys.json")
    ring.add(ApiKey(name="ci", digest=digest_of(KEY)))
    ring.add(ApiKey(name="app", digest=digest_of(OTHER)))
    checked = Gate("flights", ring.read())
    heard = asyncio.Event()

    def trust(keys: Sequence[ApiKey]) -> None:
        checked.trust(keys)
        heard.set()

    async def test() -> None:
        watching = asyncio.create_task(ring.watch(trust))
        await asyncio.wait_for(heard.wait(), 10.0)
        assert ask(checked, **{"x-api-key": KEY})[0] == 200
        heard.clear()
        ring.revoke("ci")
        await asyncio.wait_for(heard.wait(), 10.0)
        assert ask(checked, **{"x-api-key": KEY})[0] == 401
        assert ask(checked, **{"x-api-key": OTHER})[0] == 200
        heard.clear()
        (tmp_path / "keys.json").write_text("nonsense")
        await asyncio.wait_for(heard.wait(), 10.0)
        assert ask(checked, **{"x-api-key": OTHER})[0] == 401
        watching.cancel()

    asyncio.run(test())
    assert "nobody is let in" in caplog.text


def test_a_key_revoked_before_the_watch_begins_is_let_in_no_more(tmp_path: Path) -> None:
    # A replica reads its keys, then loads its model for minutes, then watches.
    ring = Keyring(tmp_path / "keys.json")
    ring.add(ApiKey(name="ci", digest=digest_of(KEY)))
    checked = Gate("flights", ring.read())
    ring.revoke("ci")

    async def first_told() -> Sequence[ApiKey]:
        told: asyncio.Future[Sequence[ApiKey]] = asyncio.get_running_loop().create_future()
        watching = asyncio.create_task(ring.watch(told.set_result))
        keys = await asyncio.wait_for(told, 10.0)
        watching.cancel()
        return keys

    checked.trust(asyncio.run(first_told()))
    assert ask(checked, **{"x-api-key": KEY})[0] == 401


def test_keys_are_made_listed_and_revoked_from_the_command_line(tmp_path: Path) -> None:
    given = ["--home", str(tmp_path), "--set", f"serve.keys_file={tmp_path}/keys.json", "--json"]

    def verb(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["keys", *arguments, *given])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    key = verb("make", "ci", "--model", "flights", "--rate-per-s", "5")["key"]
    (listed,) = verb("list")
    assert (listed["name"], listed["models"], listed["rate_per_s"]) == ("ci", ["flights"], 5.0)
    assert listed["digest"] == digest_of(key)
    assert key not in (tmp_path / "keys.json").read_text()
    assert verb("revoke", "ci") == {"revoked": "ci"}
    assert verb("list") == []
    for wrong in (["make", ""], ["make", "ci", "--rate-per-s", "-1"]):
        refused = CliRunner().invoke(app, ["keys", *wrong, *given])
        assert isinstance(refused.exception, ConfigError), "a traceback, not a line"
    without = CliRunner().invoke(app, ["keys", "list", "--home", str(tmp_path)])
    assert "serve.keys_file is not set" in str(without.exception)
