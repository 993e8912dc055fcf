"""`cluster.yaml` over a real ssh: to this machine, and to two machines of a private network."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from raymlops.cluster import ClusterSettings, connect, down, status, up
from raymlops.cluster.address import free_port
from raymlops.cluster.background import read_node
from tests.networks import join, tools

SHIPPED = Path(__file__).parents[2] / "cluster.yaml"
IMPORT_PATH = os.pathsep.join(filter(None, sys.path))
BYSTANDER = "sleep"
pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The key of a server and that of its user."""

    folder: Path

    @property
    def user(self) -> str:
        return str(self.folder / "user")

    def server(self, home: Path) -> list[str]:
        """An ssh server into `home`, which becomes the user's home folder."""
        home.mkdir()
        config = self.folder / f"{home.name}.conf"
        config.write_text(
            f"HostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/user.pub\n"
            f"StrictModes no\nUsePAM no\nPidFile none\nSetEnv HOME={home}\n"
        )
        return [*tools("sshd"), "-f", str(config)]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    _, keygen, _ = tools("ssh", "ssh-keygen", "sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it when it may drop privileges
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return Keys(folder=folder)


def filled_in(keys: Keys, *, head: str, workers: Sequence[str], **auth: str) -> dict[str, Any]:
    """The shipped `cluster.yaml` for these machines, with what is imported here."""
    node = f"PYTHONPATH={IMPORT_PATH} {sys.executable} -m raymlops.cluster.node"
    own = SHIPPED.read_text().replace("python3 -m raymlops.cluster.node", node)
    fields: dict[str, Any] = yaml.safe_load(own)
    return fields | {
        "provider": {"type": "local", "head_ip": head, "worker_ips": list(workers)},
        "auth": {"ssh_user": getpass.getuser(), "ssh_private_key": keys.user, **auth},
        "setup_commands": [],
    }


def test_a_file_starts_its_head_and_down_ends_what_it_recorded(keys: Keys, tmp_path: Path) -> None:
    home, cluster_file, far = tmp_path / "home", tmp_path / "mine.yaml", tmp_path / "far"
    # A server for each connection, on a pipe: no port, no daemon, nothing to end afterwards.
    proxy = " ".join([*keys.server(far), "-i"])
    fields = filled_in(keys, head="127.0.0.1", workers=(), ssh_proxy_command=proxy)
    text = yaml.safe_dump(fields, sort_keys=False, width=10_000)
    cluster_file.write_text(text.replace("--port 6379", f"--port {free_port('127.0.0.1')}"))
    try:
        record = up(cluster_file, home=home)
        assert record.node is None
        assert up(cluster_file, home=home) == record
        node = read_node(far / ".raymlops" / "node.json")
        assert node is not None
        members = node.leader.members()
        assert (far / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600

        found = status(home)
        assert (found.running, found.problem) == (True, None)
        assert [machine.total.get("CPU", 0.0) for machine in found.nodes] == [0.0]
        with connect(ClusterSettings(address="auto"), home=home) as session:
            assert session.address == record.address
    finally:
        assert down(home)
    assert [process for process in members if process.is_running()] == []
    assert not (far / ".raymlops" / "node.json").exists()
    assert not status(home).running


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine of its own network and processes; `init` is the first of them, an ssh server."""

    init: psutil.Process
    home: Path

    def run(self, *command: str) -> str:
        """What `command` prints in the machine's network."""
        inside = [*tools("nsenter"), f"--target={self.init.pid}", "--net", *command]
        return subprocess.run(inside, check=True, stdout=subprocess.PIPE, text=True).stdout

    def operate(self, code: str, *arguments: Path) -> Any:
        """The value of the expression `code` over raymlops.cluster, computed at this machine."""
        script = (
            "import sys, json; from dataclasses import asdict; from pathlib import Path\n"
            "from raymlops.cluster import down, status, up\n"
            f"a, *b = map(Path, sys.argv[1:]); print(json.dumps({code}))"
        )
        paths = map(str, arguments)
        return json.loads(
            self.run("env", f"PYTHONPATH={IMPORT_PATH}", sys.executable, "-c", script, *paths)
        )

    def processes(self) -> list[psutil.Process]:
        """What runs on the machine besides its ssh server and the bystander."""
        running = self.init.children(recursive=True)
        return [process for process in running if process.name() != BYSTANDER]

    def bystands(self) -> bool:
        """Whether somebody else's process is still there."""
        return BYSTANDER in {process.name() for process in self.init.children()}

    def crash(self) -> None:
        """End all that `processes` tells of, and let none of it say goodbye."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def started(server: Sequence[str], home: Path) -> Iterator[Machine]:
    """A machine that ends, with all its processes and its network, when the block or we do."""
    setpriv, unshare, ip = tools("setpriv", "unshare", "ip")
    private = ["--net", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]
    other = f"{BYSTANDER} infinity > /dev/null &"
    serve = f"{ip} link set lo up && echo && {{ {other} }} && exec {' '.join(server)} -D"
    command = [setpriv, "--pdeathsig=KILL", unshare, *private, "sh", "-c", serve]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as outer:
        assert outer.stdout is not None
        try:
            if not outer.stdout.readline():
                pytest.fail("no namespaces here: run as root, in a container with --privileged")
            yield Machine(init=psutil.Process(outer.pid).children()[0], home=home)
        finally:
            outer.kill()


@pytest.fixture
def two_machines(keys: Keys, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """10.77.0.1 and 10.77.0.2, joined by a cable of their own."""
    with ExitStack() as stack:
        homes = (tmp_path / "head", tmp_path / "worker")
        head, worker = (stack.enter_context(started(keys.server(home), home)) for home in homes)
        join(head.init.pid, worker.init.pid, "10.77.0.1", "10.77.0.2")
        yield head, worker


@pytest.mark.endurance
def test_a_worker_joins_over_ssh_comes_back_and_ends(
    keys: Keys, two_machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    head, worker = two_machines
    home, cluster_file = tmp_path / "home", tmp_path / "mine.yaml"
    fields = filled_in(keys, head="10.77.0.1", workers=["10.77.0.2"])
    cluster_file.write_text(yaml.safe_dump(fields))

    record = head.operate("asdict(up(a, home=b[0]))", cluster_file, home)
    assert record["address"] == "10.77.0.1:6379"
    alive = "sorted(n.host for n in status(a).nodes if n.alive)"
    assert head.operate(alive, home) == ["10.77.0.1", "10.77.0.2"]

    worker.crash()
    assert head.operate("asdict(up(a, home=b[0]))", cluster_file, home) == record
    assert "raylet" in {process.name() for process in worker.processes()}

    assert head.operate("down(a)", home) is True
    for machine in two_machines:
        assert machine.processes() == []
        assert machine.bystands()
