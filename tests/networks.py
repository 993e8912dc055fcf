"""Networks of their own for processes, joined by a cable; needs the right to make namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

_PACKAGES = {
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}


def tools(*names: str) -> list[str]:
    """Where the programs are; the test fails where some are not installed."""
    found = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        packages = sorted({_PACKAGES[name] for name in missing})
        pytest.fail(f"missing: {', '.join(missing)}; apt-get install {' '.join(packages)}")
    return [path for path in found if path is not None]


def within(pid: int, *command: str) -> list[str]:
    """That command, in the network of that process."""
    (nsenter,) = tools("nsenter")
    return [nsenter, f"--target={pid}", "--net", *command]


def join(one: int, other: int, *addresses: str) -> None:
    """Lays a cable between the networks of two processes, which get these addresses, at `eth0`."""
    (ip,) = tools("ip")
    ends = [["netns", str(pid)] for pid in (one, other)]
    cable = [ip, "link", "add", "eth0", *ends[0], "type", "veth", "peer", "eth0", *ends[1]]
    subprocess.run(cable, check=True)
    for pid, address in zip((one, other), addresses, strict=True):
        add = within(pid, ip, "address", "add", f"{address}/24", "dev", "eth0")
        subprocess.run(add, check=True)
        subprocess.run(within(pid, ip, "link", "set", "eth0", "up"), check=True)


def cut(pid: int) -> None:
    """Nothing comes from that network, or gets there, any more."""
    (ip,) = tools("ip")
    subprocess.run(within(pid, ip, "link", "set", "eth0", "down"), check=True)
