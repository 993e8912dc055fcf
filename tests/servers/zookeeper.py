"""ZooKeeper: one server, or an ensemble."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raymlops.cluster.address import free_port
from tests.servers.process import program, running

_JAR = "/usr/share/java/zookeeper.jar"


@dataclass(frozen=True)
class ZooKeeper:
    """One server: its client `port`, and its process."""

    port: int
    process: subprocess.Popen[bytes]

    def figure(self, name: str) -> float:
        """What the server itself counts as `name`; 0 where it has counted nothing yet."""
        return float(_figures(self.port).get(name, "0"))

    @property
    def is_leader(self) -> bool:
        return _figures(self.port).get("zk_server_state") == "leader"


@dataclass(frozen=True)
class Ensemble:
    servers: tuple[ZooKeeper, ...]

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    @property
    def leader(self) -> ZooKeeper:
        return next(server for server in self.servers if server.is_leader)


@contextlib.contextmanager
def zookeeper(
    *, num_servers: int = 1, tick_ms: int = 100, force_sync: bool = False
) -> Iterator[Ensemble]:
    """Sessions may time out after 2 to 400 ticks; `force_sync` has each write reach the disk."""
    program("zkServer.sh", package="zookeeper", folders=[Path("/usr/share/zookeeper/bin")])
    java = program("java", package="default-jre-headless")
    command = [
        java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", _JAR,
        f"-Dzookeeper.forceSync={'yes' if force_sync else 'no'}",
        "org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg",
    ]  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="raymlops-zookeeper-"))
    ports = [tuple(free_port("127.0.0.1") for _ in range(3)) for _ in range(num_servers)]
    peers = [f"127.0.0.1:{peer}:{election}" for _, peer, election in ports]

    def all_are_up() -> bool:
        return all("zk_server_state" in _figures(port) for port, _, _ in ports)

    try:
        with contextlib.ExitStack() as stack:
            servers = []
            for number, (port, _, _) in enumerate(ports):
                home = _home(folder, number, port, tick_ms, peers)
                # No member of an ensemble answers before most of them run.
                is_last = number == num_servers - 1
                is_up = all_are_up if is_last else (lambda: True)
                process = stack.enter_context(
                    running(command, folder=home, is_up=is_up, leaves=[folder])
                )
                servers.append(ZooKeeper(port, process))
            yield Ensemble(tuple(servers))
    finally:
        shutil.rmtree(folder)


def _home(folder: Path, number: int, port: int, tick_ms: int, peers: Sequence[str]) -> Path:
    home = folder / str(number)
    (home / "data").mkdir(parents=True)
    (home / "data" / "myid").write_text(str(number))
    lines = [
        f"dataDir={home / 'data'}", f"clientPort={port}", "clientPortAddress=127.0.0.1",
        f"tickTime={tick_ms}", "initLimit=50", "syncLimit=20", f"maxSessionTimeout={400 * tick_ms}",
        "admin.enableServer=false", "4lw.commands.whitelist=mntr", "maxClientCnxns=0",
    ]  # fmt: skip
    if len(peers) > 1:
        lines += [f"server.{peer}={address}" for peer, address in enumerate(peers)]
    (home / "zoo.cfg").write_text("\n".join(lines))
    return home


def _figures(port: int) -> dict[str, str]:
    """The server's answer to `mntr`; empty while it serves nobody."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(b"mntr")
            answer = b"".join(iter(lambda: line.recv(65536), b"")).decode()
    except OSError:
        return {}
    pairs = (row.split("\t") for row in answer.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
