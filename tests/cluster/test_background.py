from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster.background import (
    NodePlan,
    NodeRecord,
    _dashboard_port,
    ray_start_command,
    start_node,
)
from raymlops.cluster.process import SessionLeader
from raymlops.errors import ClusterError


def flags(plan: NodePlan) -> list[str]:
    return ray_start_command(
        plan, scratch=Path("/tmp/raymlops-x"), dashboard_port=8265, client_port=10001
    )[4:]


def test_a_head_binds_loopback_and_ports_of_its_own() -> None:
    assert flags(NodePlan(num_cpus=2, object_store_bytes=10**8)) == [
        "--block",
        "--disable-usage-stats",
        "--log-color=false",
        "--dashboard-agent-listen-port=0",
        "--node-ip-address=127.0.0.1",
        "--num-cpus=2",
        "--object-store-memory=100000000",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--head",
        "--port=0",
        "--ray-client-server-port=10001",
        "--dashboard-host=127.0.0.1",
        "--dashboard-port=8265",
    ]


def test_a_worker_joins_in_a_folder_of_its_own_and_starts_no_head() -> None:
    plan = NodePlan(join="10.0.0.1:6379", host=None)
    assert flags(plan)[-2:] == ["--address=10.0.0.1:6379", "--temp-dir=/tmp/raymlops-x/ray"]
    assert "--head" not in flags(plan)


def test_a_node_on_an_address_of_its_own_is_not_private() -> None:
    assert NodePlan().loopback
    assert not NodePlan(host=None).loopback
    assert not NodePlan(host="10.0.0.1").loopback


def test_a_record_survives_its_file() -> None:
    record = NodeRecord(
        leader=SessionLeader(pid=7, boot="b", started=15),
        address="127.0.0.1:6379",
        dashboard_url=None,
        scratch="/tmp/raymlops-x",
        log="/home/x/cluster.log",
    )
    assert NodeRecord.from_fields(json.loads(record.to_json()), source="node.json") == record


@pytest.mark.cluster
def test_a_start_that_ray_refuses_shows_its_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, record = tmp_path / "node.log", tmp_path / "node.json"
    made: list[str] = []
    make = tempfile.mkdtemp

    def mkdtemp(*arguments: Any, **named: Any) -> str:
        made.append(make(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with pytest.raises(ClusterError, match="object store memory"):
        start_node(NodePlan(object_store_bytes=1), log=log, path=record)
    assert not record.exists()
    (scratch,) = made
    assert not Path(scratch).exists()


def test_nodes_that_start_at_once_are_told_different_dashboard_ports() -> None:
    with _dashboard_port("127.0.0.1") as one, _dashboard_port("127.0.0.1") as other:
        assert one != other
