from __future__ import annotations

import json
import logging
import multiprocessing
import stat
import threading
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from raymlops.config import Secret
from raymlops.telemetry.logs import LineWriter, LogPolicy, chosen, shown_inputs


def writer(path: Path, **options: Any) -> LineWriter:
    settings = {"max_file_bytes": 1 << 20, "num_files": 2, "max_waiting": 1000, **options}
    return LineWriter(path, **settings)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"share": 1.5}, r"share is 1\.5, not within 0 and 1"),
        ({"slow_s": 0.0}, r"slow_s is 0\.0: every request would be slow"),
        ({"num_files": 0}, "num_files is 0, at least 1 is needed"),
        ({"hidden": ("age",)}, "hidden is .*, but inputs are not logged"),
    ],
)
def test_an_impossible_rule_is_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        LogPolicy(**wrong)


class Asked(NamedTuple):
    id: str = "a"
    latency_s: float = 0.001


def test_errors_and_slow_requests_are_always_logged() -> None:
    policy = LogPolicy(share=0.0, slow_s=0.5)
    quick, slow = Asked(latency_s=0.499), Asked(latency_s=0.5)
    for status in (400, 500):
        assert chosen(policy, status, [quick, slow]) == [(quick, "error"), (slow, "error")]
    assert chosen(policy, 200, [quick, slow]) == [(slow, "slow")]
    assert chosen(LogPolicy(share=1.0), 200, [quick]) == [(quick, "share")]


def test_of_the_rest_a_share_is_logged_always_the_same() -> None:
    policy = LogPolicy(share=0.1)
    requests = [Asked(f"request-{number}") for number in range(20_000)]
    kept, again, more = (
        {each.id for each, _ in chosen(rule, 200, requests)}
        for rule in (policy, policy, LogPolicy(share=0.2))
    )
    assert kept == again
    assert kept < more  # a larger share keeps what a smaller one did
    assert 1850 < len(kept) < 2150


def test_values_are_shown_but_those_that_are_hidden() -> None:
    columns = {"age": np.array([31.0, np.nan, 50.0]), "name": np.array(["a", "b", "c"], object)}
    shown = shown_inputs(columns, hidden=("name",), max_rows=2)
    assert shown["name"] == "***"
    assert shown["age"][0] == 31.0
    assert len(shown["age"]) == 2


@pytest.mark.parametrize(
    "text",
    ["open-sesame-1", 'open "sesame" \\1', "sésame\touvre", "開けゴマ\n開けゴマ", "o'pen\u2028ses"],
)
def test_lines_are_written_without_secrets_and_for_nobody_else(tmp_path: Path, text: str) -> None:
    secret = Secret(text)
    lines = writer(tmp_path / "logs" / "a.jsonl")
    lines.start()
    lines.put({"at": datetime(2013, 7, 1, tzinfo=UTC), "shape": (3,), "x": np.float32(0.5)})
    lines.put({"error": f"no {secret.reveal()} here"})
    # A message that quotes it had its escapes escaped again, which nobody looked for.
    for quoted in (repr(text), json.dumps(text), json.dumps({"in": text})):
        lines.put({"outer": [{"inner": {f"{text}": quoted}}]})
    lines.close()
    path = tmp_path / "logs" / "a.jsonl"
    assert read(path) == [
        {"at": "2013-07-01T00:00:00Z", "shape": [3], "x": 0.5},
        {"error": "no *** here"},
        {"outer": [{"inner": {"***": repr(text)[0] + "***" + repr(text)[-1]}}]},
        {"outer": [{"inner": {"***": '"***"'}}]},
        {"outer": [{"inner": {"***": '{"in": "***"}'}}]},
    ]
    assert (lines.num_written, lines.num_dropped) == (5, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_files_rotate_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for number in range(5):
        lines = writer(path, max_file_bytes=10)
        lines.start()
        lines.put({"number": number})
        lines.close()
    names = ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    assert sorted(each.name for each in tmp_path.iterdir()) == names
    assert [read(tmp_path / name) for name in names] == [
        [{"number": 4}],
        [{"number": 3}],
        [{"number": 2}],
    ]


def test_a_file_that_cannot_be_put_aside_does_not_grow_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a folder had the name, it grew until the disk was full, and all of its lines counted
    as dropped."""
    path = tmp_path / "a.jsonl"
    (tmp_path / "a.jsonl.1" / "of somebody").mkdir(parents=True)
    (tmp_path / "a.jsonl.2").write_text("")
    for number in range(3):
        lines = writer(path, max_file_bytes=10)
        lines.start()
        lines.put({"number": number})
        lines.close()
        assert (lines.num_written, lines.num_dropped) == ((1, 0) if number == 0 else (0, 1))
    assert read(path) == [{"number": 0}]
    assert "a.jsonl cannot be written, its lines are dropped" in caplog.text
    assert "a.jsonl.1" in caplog.text


def test_what_the_disk_cannot_take_is_dropped_and_nobody_waits(tmp_path: Path) -> None:
    """Before it is started a writer is as one whose disk hangs."""
    lines = writer(tmp_path / "a.jsonl", max_waiting=10)
    for number in range(25):
        lines.put({"number": number})
    assert lines.num_dropped == 15
    lines.start()
    lines.close()
    assert [each["number"] for each in read(tmp_path / "a.jsonl")] == [*range(10)]


def test_a_document_that_json_cannot_hold_costs_its_own_line_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread that writes once died of it, and with it all that came later."""
    lines = writer(tmp_path / "a.jsonl")
    lines.start()
    with caplog.at_level(logging.WARNING):
        lines.put({"error": "no input '\ud800'"})
        lines.put({"number": 2})
        lines.close()
    assert read(tmp_path / "a.jsonl") == [{"number": 2}]
    assert (lines.num_written, lines.num_dropped) == (1, 1)
    assert "a line of" in caplog.text


def test_a_disk_that_is_full_costs_lines_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.mkdir()  # nothing can be appended to it
    lines = writer(path)
    lines.start()
    with caplog.at_level(logging.WARNING):
        lines.put({"number": 1})
        lines.close()
    assert lines.num_dropped == 1
    assert "its lines are dropped" in caplog.text
    assert threading.active_count() >= 1


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    """What was written after a full disk, or a kill, became part of it: no JSON, and lost."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":2,"pad":"xxx')
    lines = writer(path)
    lines.put({"n": 3})
    lines.start()
    lines.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":2,"pad":"xxx\n{"n":3}\n'


def test_two_processes_write_one_log_that_rotates(tmp_path: Path) -> None:
    """As while one takes another's place: each put files of the other's over its own, and one line
    in eight was lost, though it counted as written."""
    path = tmp_path / "log.jsonl"
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        written = list(pool.map(_fill, [path, path], [0, 1]))
    kept = [line["n"] for file in tmp_path.iterdir() for line in read(file)]
    assert written == [3000, 3000]
    assert sorted(kept) == sorted([*range(3000)] * 2)


def _fill(path: Path, number: int) -> int:
    lines = writer(path, max_file_bytes=20_000, num_files=2000)
    for start in range(0, 3000, 10):
        for n in range(start, start + 10):
            lines.put({"n": n, "who": number, "pad": "x" * 100})
        lines._write_waiting()
    return lines.num_written
