from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from raymlops.cluster import ClusterRecord, Level, diagnose, doctor
from raymlops.storage import Copies


def test_both_distributions_of_tensorflow_serve_but_not_together() -> None:
    assert doctor.judge_tensorflow("2.21.0", None).text == "2.21.0 from tensorflow"
    assert doctor.judge_tensorflow(None, "2.21.0").text == "2.21.0 from tensorflow-cpu"
    assert doctor.judge_tensorflow("2.21.0", "2.21.0").level is Level.WARNING
    assert doctor.judge_tensorflow(None, None).level is Level.NOTE


@pytest.mark.parametrize(
    ("found", "level"),
    [(None, "error"), ("2.59.1", "warning"), ("2.60.0", "ok"), ("3.0.0", "warning")],
)
def test_ray_is_judged_by_its_version(found: str | None, level: str) -> None:
    assert doctor.judge_ray(found).level == level


def test_a_cpu_build_of_torch_is_noted() -> None:
    assert doctor.judge_torch("2.13.0+cpu").level is Level.NOTE
    assert doctor.judge_torch("2.13.0").level is Level.OK
    assert doctor.judge_torch(None).level is Level.ERROR


def test_too_little_room_is_a_warning_with_both_figures() -> None:
    short = doctor.judge_room("disk", 2**30, wanted_bytes=2**32)
    assert (short.level, short.text) == (Level.WARNING, "1.0 GiB free, 4 GiB wanted")
    assert doctor.judge_room("disk", 2**33, wanted_bytes=2**32).level is Level.OK


def test_a_home_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    found = doctor.judge_home(Path("/proc/nope"))
    assert (found.level, "/proc cannot be written" in found.text) == (Level.ERROR, True)
    assert doctor.judge_home(tmp_path / "new").level is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    token = tmp_path / "token"
    assert doctor.judge_token(token).level is Level.NOTE
    token.touch(mode=0o600)
    assert doctor.judge_token(token).level is Level.OK
    token.chmod(0o644)
    assert "chmod 600" in doctor.judge_token(token).text


def test_a_machine_without_a_cluster_is_diagnosed_without_importing_torch(tmp_path: Path) -> None:
    had_torch = "torch" in sys.modules
    subjects = {finding.subject: finding for finding in diagnose(tmp_path / "new")}
    assert {"python", "ray", "torch", "cores", "memory", "home", "disk", "token"} <= subjects.keys()
    assert subjects["cluster"].level is Level.NOTE
    assert ("torch" in sys.modules) == had_torch


def test_what_a_machine_keeps_of_a_store_is_told(tmp_path: Path) -> None:
    copies = Copies(folder=tmp_path / "copies", max_bytes=8 << 20)
    copies.put(hashlib.sha256(bytes(1 << 20)).hexdigest(), bytes(1 << 20))
    (finding,) = (each for each in diagnose(tmp_path, copies) if each.subject == "copies")
    assert finding.text.startswith("1 of the store's blobs, 1.0 of 8 MiB")


@pytest.mark.cluster
def test_a_cluster_that_answers_is_ok(cluster: ClusterRecord, home: Path) -> None:
    (finding,) = (found for found in diagnose(home) if found.subject == "cluster")
    assert (finding.level, finding.text) == (Level.OK, f"{cluster.address}, 1 node(s)")


def test_a_record_that_is_refused_is_a_finding(tmp_path: Path) -> None:
    leader = {"pid": 7, "started_s": 1.5}
    record = {"address": "127.0.0.1:1", "dashboard_url": None, "node": {"leader": leader}}
    (tmp_path / "cluster.json").write_text(json.dumps(record))
    (finding,) = (each for each in diagnose(tmp_path) if each.subject == "cluster")
    assert finding.level is Level.ERROR
    assert f"then delete {tmp_path / 'cluster.json'}" in finding.text
