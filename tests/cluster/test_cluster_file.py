from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raymlops.cluster.cluster_file import read_machines
from raymlops.cluster.machines import Machines
from raymlops.errors import ClusterError

SHIPPED = Path(__file__).parents[2] / "cluster.yaml"
KNOWN_HOSTS = Path("/h/known_hosts")


def shipped(tmp_path: Path, **changes: Any) -> Path:
    """The file of the repository, with addresses filled in and `changes` over it."""
    fields = yaml.safe_load(SHIPPED.read_text())
    fields["provider"] |= {"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(fields | changes, sort_keys=False))
    return path


def read(tmp_path: Path, **changes: Any) -> Machines:
    return read_machines(shipped(tmp_path, **changes), known_hosts=KNOWN_HOSTS)


def test_the_shipped_file_passes_rays_own_validation(tmp_path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    fields = prepare_config(yaml.safe_load(shipped(tmp_path).read_text()))
    validate_config(fields)
    assert fields["available_node_types"]["local.cluster.node"]["min_workers"] == 2


def test_the_shipped_file_waits_to_be_filled_in() -> None:
    with pytest.raises(ClusterError, match=r"<head-address>, <worker-address>: fill them in"):
        read_machines(SHIPPED, known_hosts=KNOWN_HOSTS)


def test_each_role_has_its_own_lines(tmp_path: Path) -> None:
    start = ". env/bin/activate && python -m raymlops.cluster.node --home /x start --address a:1"
    machines = read(
        tmp_path,
        setup_commands=["both"],
        worker_setup_commands=["worker"],
        worker_start_ray_commands=["mount /data", start],
    )
    assert machines.hosts == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert machines.head.setup == ("both",)
    assert machines.head.node == "python3 -m raymlops.cluster.node"
    worker = machines.workers[0]
    assert worker.setup == ("both", "worker")
    assert worker.start == ("mount /data", start)
    assert worker.node == ". env/bin/activate && python -m raymlops.cluster.node --home /x"


def test_a_file_that_runs_ray_stop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="ends every Ray of the machine"):
        read(tmp_path, head_start_ray_commands=["ray stop", "ray start --head"])


def test_a_file_that_starts_ray_unrecorded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="worker_start_ray_commands has no `python -m"):
        read(tmp_path, worker_start_ray_commands=["ray start --address=x:1"])


def test_a_field_that_would_do_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="does not act on docker, file_mounts"):
        read(tmp_path, file_mounts={"/a": "/b"}, docker={})


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="lacks the field 'ssh_user'"):
        read(tmp_path, auth={})


def test_a_machine_is_reached_with_the_key_of_the_file(tmp_path: Path) -> None:
    auth = {"ssh_user": "ops", "ssh_private_key": "/k", "ssh_proxy_command": "relay %h"}
    command = read(tmp_path, auth=auth).login.command("10.0.0.2", "x stop")
    assert {"IdentityFile=/k", "ProxyCommand=relay %h"} <= set(command)
    assert "UserKnownHostsFile=/h/known_hosts" in command
    assert command[-2] == "ops@10.0.0.2"
