"""The on-premises subset of Ray's cluster file that raymlops acts on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from raymlops.cluster.machines import Machine, Machines
from raymlops.cluster.ssh import Login
from raymlops.errors import ClusterError

# All of the start line up to the verb: activation of an environment, interpreter, --home.
_START = re.compile(r"^(?P<node>.*raymlops\.cluster\.node(?: --home[ =]\S+)?) start\b")

_FIELDS = {"cluster_name", "provider", "auth", "setup_commands"} | {
    f"{role}_{kind}_commands" for role in ("head", "worker") for kind in ("setup", "start_ray")
}
_PROVIDER_FIELDS = {"type", "head_ip", "worker_ips"}
_AUTH_FIELDS = {"ssh_user", "ssh_private_key", "ssh_proxy_command"}


def read_machines(cluster_file: Path, *, known_hosts: Path) -> Machines:
    """The machines that `cluster_file` names; `known_hosts` is where ssh keeps their keys.

    Raises:
        ClusterError: It is no on-premises file of ours; the message names the field.
    """
    try:
        return _machines(yaml.safe_load(cluster_file.read_text()), known_hosts=known_hosts)
    except (OSError, yaml.YAMLError) as error:
        raise ClusterError(f"{cluster_file} cannot be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise ClusterError(f"{cluster_file} lacks the field {error}") from error
    except ValueError as error:
        raise ClusterError(f"{cluster_file}: {error}") from error


def _machines(fields: dict[str, Any], *, known_hosts: Path) -> Machines:
    provider, auth = fields["provider"], fields["auth"]
    if provider["type"] != "local":
        raise ValueError(f"provider.type is {provider['type']!r}, not 'local'")
    _refuse_unknown(fields, _FIELDS)
    _refuse_unknown(provider, _PROVIDER_FIELDS)
    _refuse_unknown(auth, _AUTH_FIELDS)
    placeholders = [host for host in (provider["head_ip"], *provider["worker_ips"]) if "<" in host]
    if placeholders:
        raise ValueError(f"{', '.join(placeholders)}: fill them in")
    return Machines(
        head=_machine(provider["head_ip"], fields, role="head"),
        workers=tuple(_machine(host, fields, role="worker") for host in provider["worker_ips"]),
        login=Login(
            user=auth["ssh_user"],
            key=auth.get("ssh_private_key"),
            proxy=auth.get("ssh_proxy_command"),
            known_hosts=known_hosts,
        ),
    )


def _machine(host: str, fields: dict[str, Any], *, role: str) -> Machine:
    setup = [*fields.get("setup_commands", ()), *fields.get(f"{role}_setup_commands", ())]
    name = f"{role}_start_ray_commands"
    start = tuple(fields[name])
    if any("ray stop" in line for line in start):
        raise ValueError(
            f"{name} runs `ray stop`, which ends every Ray of the machine: take it out"
        )
    nodes = [match["node"] for match in map(_START.match, start) if match]
    if not nodes:
        raise ValueError(
            f"{name} has no `python -m raymlops.cluster.node start`: without it nothing on the "
            "machine knows what to stop"
        )
    return Machine(host=host, setup=tuple(setup), start=start, node=nodes[0])


def _refuse_unknown(fields: Mapping[str, object], known: set[str]) -> None:
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"raymlops does not act on {', '.join(unknown)}: take it out")
