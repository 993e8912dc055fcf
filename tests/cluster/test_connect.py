from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raymlops.cluster import ClusterRecord, ClusterSettings, connect, is_private
from raymlops.cluster.connect import resolve_address
from raymlops.errors import ClusterError

LOCAL = ClusterSettings(num_cpus=1)
AUTO = ClusterSettings(address="auto")

# A process with a private Ray: says its address, then ends when its input does.
NEIGHBOUR = """
import sys
from pathlib import Path
import ray
from raymlops.cluster import ClusterSettings, connect
with connect(ClusterSettings(num_cpus=1), home=Path(sys.argv[1])) as session:
    print(session.address, flush=True)
    sys.stdin.read()
    print(ray.get(ray.put("well")), flush=True)
"""


def test_auto_prefers_the_address_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert resolve_address("auto", home=tmp_path) == "10.0.0.1:6379"
    assert resolve_address("10.0.0.9:1", home=tmp_path) == "10.0.0.9:1"


def test_ray_client_is_not_taken_for_a_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    with pytest.raises(ClusterError, match="not Ray Client"):
        resolve_address("auto", home=tmp_path)


def test_auto_without_a_cluster_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="start one with `raymlops up`"):
        resolve_address("auto", home=tmp_path)


def test_ray_is_private_by_default_only_where_there_is_none_to_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` and then `deploy` once were two clusters: the second was in the way of the first."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    unsaid, local = ClusterSettings(), ClusterSettings(address="local")
    assert is_private(unsaid, home=tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not is_private(unsaid, home=tmp_path)
    assert is_private(local, home=tmp_path)
    assert is_private(ClusterSettings(num_cpus=2), home=tmp_path)
    assert not is_private(AUTO, home=tmp_path)


def test_a_private_ray_that_does_not_start_is_an_error_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", too_slow)
    with (
        pytest.raises(ClusterError, match=r"timed out during startup\. See what the machine is"),
        connect(LOCAL, home=tmp_path),
    ):
        pass


@pytest.mark.cluster
def test_a_private_ray_binds_loopback_and_leaves_no_process_after_an_interrupt(
    tmp_path: Path,
) -> None:
    import ray

    def worker_environment() -> tuple[str | None, ...]:
        names = ("RAY_USAGE_STATS_ENABLED", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "RAY_AUTH_MODE")
        return tuple(os.environ.get(name) for name in names)

    def interrupted() -> None:
        with connect(LOCAL, home=tmp_path) as session:
            family = {psutil.Process(), *psutil.Process().children(recursive=True)}
            ports = [port for process in family for port in process.net_connections(kind="inet")]
            listening = {port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN}
            assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
            assert ray.get(ray.remote(worker_environment).remote()) == ("0", "0.1", "token")
            assert session.owned
            raise KeyboardInterrupt

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not ray.is_initialized()
    assert set(psutil.Process().children(recursive=True)) <= before
    assert "RAY_AUTH_MODE" not in os.environ


@pytest.mark.cluster
def test_two_private_rays_live_side_by_side_and_leave_no_process(tmp_path: Path) -> None:
    import ray

    before = set(psutil.Process().children(recursive=True))
    command = [sys.executable, "-c", NEIGHBOUR, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as neighbour:
        with connect(LOCAL, home=tmp_path) as session:
            assert neighbour.stdout is not None
            assert neighbour.stdout.readline().strip() not in ("", session.address)
            assert ray.get(ray.put("well")) == "well"
        output, _ = neighbour.communicate()
    assert (output, neighbour.returncode) == ("well\n", 0)
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.cluster
def test_auto_joins_what_up_started_and_leaves_it_running(
    cluster: ClusterRecord, home: Path
) -> None:
    for settings in (AUTO, AUTO, ClusterSettings()):
        with connect(settings, home=home) as session:
            assert (session.address, session.owned) == (cluster.address, False)
            assert session.dashboard_url == cluster.dashboard_url


@pytest.mark.cluster
def test_a_ray_of_this_process_is_joined_and_not_ended(
    cluster: ClusterRecord, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    with connect(AUTO, home=home) as outer:
        with connect(LOCAL, home=home) as inner:
            assert (inner.address, inner.owned) == (outer.address, False)
        assert ray.is_initialized()
    assert "initialised in this process already" in caplog.text


@pytest.mark.cluster
def test_a_cluster_that_takes_anybody_is_refused_where_a_token_was_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raymlops.cluster.background import NodePlan, start_node, stop_node

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    node = start_node(NodePlan(num_cpus=1), log=tmp_path / "node.log", path=tmp_path / "node.json")
    try:
        settings = ClusterSettings(address=node.address)
        with connect(settings, home=tmp_path) as session:
            assert session.address == node.address
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        with (
            pytest.raises(ClusterError, match="takes anybody in"),
            connect(settings, home=tmp_path),
        ):
            pass
    finally:
        stop_node(node)
