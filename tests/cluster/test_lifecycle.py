from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from raymlops.cluster import ClusterRecord, down, status, up
from raymlops.cluster.connect import resolve_address
from raymlops.cluster.files import replace_text
from raymlops.errors import ClusterError


def test_a_home_without_a_cluster_has_nothing_to_end(tmp_path: Path) -> None:
    assert not down(tmp_path)
    assert not down(tmp_path / "missing")
    assert not status(tmp_path).running


def test_sizes_beside_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"are set in cluster\.yaml"):
        up(Path("cluster.yaml"), home=tmp_path, num_cpus=2)


def test_a_home_that_cannot_be_made_is_told() -> None:
    with pytest.raises(ClusterError, match="no cluster can be started from /proc/nope: "):
        up(None, home=Path("/proc/nope"))


def test_a_full_disk_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", write)
    with pytest.raises(OSError, match=r"No space left on device: '.*/cluster\.json'"):
        replace_text(tmp_path / "cluster.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a power cut there may have been an empty file, which no `up` and no `status` could read.
    path, sync, seen = tmp_path / "cluster.json", os.fsync, []

    def look(file: int) -> None:
        sync(file)
        seen.append((os.fstat(file).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", look)
    replace_text(path, "{}")
    assert seen == [(2, False)]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").touch()
    with pytest.raises(ClusterError, match=r"cluster\.json, which .*, is damaged: Expecting value"):
        up(None, home=tmp_path)


@pytest.mark.cluster
def test_up_again_is_the_same_cluster(cluster: ClusterRecord, home: Path) -> None:
    assert up(None, home=home) == cluster


@pytest.mark.cluster
def test_everything_of_the_cluster_listens_on_loopback_only(cluster: ClusterRecord) -> None:
    assert cluster.node is not None
    ports = [
        port
        for process in cluster.node.leader.members()
        for port in process.net_connections(kind="inet")
    ]
    listening = {port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


@pytest.mark.cluster
def test_status_shows_nodes_and_no_application_yet(cluster: ClusterRecord, home: Path) -> None:
    found = status(home)
    assert (found.running, found.problem) == (True, None)
    assert (found.address, found.dashboard_url) == (cluster.address, cluster.dashboard_url)
    assert [node.total["CPU"] for node in found.nodes] == [2.0]
    assert found.applications == ()


@pytest.mark.cluster
def test_up_replaces_a_stale_record_and_down_ends_its_own_cluster_and_no_other(
    cluster: ClusterRecord, home: Path, tmp_path: Path
) -> None:
    record = {
        "address": "127.0.0.1:1",
        "dashboard_url": None,
        "node": {
            "leader": {"pid": 2**22 + 1, "boot": "earlier", "started": 1},
            "address": "127.0.0.1:1",
            "dashboard_url": None,
            "scratch": str(tmp_path / "scratch"),
            "log": "",
        },
    }
    (tmp_path / "cluster.json").write_text(json.dumps(record))
    assert not status(tmp_path).running
    with pytest.raises(ClusterError, match="has ended"):
        resolve_address("auto", home=tmp_path)
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        second = up(None, home=tmp_path, num_cpus=1)
        assert second.address != "127.0.0.1:1"
        assert status(tmp_path).running
        assert second.node is not None
        members = second.node.leader.members()
    finally:
        assert down(tmp_path)
    assert [process for process in members if process.is_running()] == []
    assert not Path(second.node.scratch).exists()
    assert not (tmp_path / "cluster.json").exists()
    assert status(home).running
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


@pytest.mark.cluster
def test_a_record_keeps_all_it_was_given(cluster: ClusterRecord, home: Path) -> None:
    assert json.loads((home / "cluster.json").read_text()) == asdict(cluster)
