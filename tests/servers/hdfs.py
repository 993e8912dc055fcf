"""HDFS: a name node and a data node of Hadoop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hdfs_native
import pytest

from raymlops.cluster.address import free_port
from tests.servers.hadoop_jars import FOLDER as _JARS
from tests.servers.process import program, running

_HOST = "127.0.0.1"
# Hadoop 2.7 is older than Java's modules.
_OPENED = (
    *(f"java.base/java.{name}" for name in ("io", "lang", "net", "nio", "util", "util.concurrent")),
    "java.base/sun.nio.ch",
    "java.security.jgss/sun.security.krb5",
)
_ADMINISTRATOR = "hdfs-administrator"


@dataclass(frozen=True, kw_only=True)
class HdfsServer:
    """Where the name node answers, and as whom to ask to be allowed everything."""

    address: str
    folder: Path
    user: str = _ADMINISTRATOR

    def uri(self, path: str, *, address: str | None = None) -> str:
        """The URI of `path`; `address` is another way to the same name node."""
        return f"hdfs://{address or self.address}/{path}"

    def limit_space(self, path: str, size_bytes: int) -> None:
        """Lets the files below the folder take that much."""
        shell = _java(self.folder, "org.apache.hadoop.hdfs.tools.DFSAdmin")
        limit = [*shell, "-setSpaceQuota", str(size_bytes), f"/{path}"]
        environment = {**os.environ, "HADOOP_USER_NAME": self.user}
        subprocess.run(limit, check=True, capture_output=True, env=environment)


@contextlib.contextmanager
def hdfs() -> Iterator[HdfsServer]:
    with tempfile.TemporaryDirectory(prefix="raymlops-hdfs-") as name:
        folder = Path(name)
        server = HdfsServer(address=f"{_HOST}:{free_port(_HOST)}", folder=folder)
        _configure(folder, server.address)
        for part in ("name-node", "data-node"):
            (folder / part).mkdir()
        environment = {**os.environ, "HADOOP_USER_NAME": server.user}
        name_node = _java(folder, "org.apache.hadoop.hdfs.server.namenode.NameNode")
        data_node = _java(folder, "org.apache.hadoop.hdfs.server.datanode.DataNode")
        done = subprocess.run(
            [*name_node, "-format", "-nonInteractive"], env=environment, capture_output=True
        )
        if done.returncode:
            pytest.fail(f"the name node cannot be formatted:\n{done.stderr.decode()}")

        def listens() -> bool:
            host, _, port = server.address.partition(":")
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0

        def writes() -> bool:
            options = hdfs_native.WriteOptions(overwrite=True)
            try:
                with hdfs_native.Client(server.uri("")).create("/probe", options) as file:
                    file.write(b"up")
            except (OSError, RuntimeError):
                return False
            return True

        with (
            pytest.MonkeyPatch.context() as patch,
            running(
                name_node,
                folder=folder / "name-node",
                is_up=listens,
                environment=environment,
                end_signal=signal.SIGKILL,
                leaves=[folder],
            ),
        ):
            patch.setenv("HADOOP_USER_NAME", server.user)
            with running(
                data_node,
                folder=folder / "data-node",
                is_up=writes,
                environment=environment,
                end_signal=signal.SIGKILL,
                leaves=[folder],
            ):
                yield server


def _java(folder: Path, name: str) -> list[str]:
    """How to run a class of Hadoop's."""
    if not _JARS.is_dir():
        pytest.fail(f"Hadoop's jars are not in {_JARS}; run tests/setup-servers")
    return [
        program("java", package="default-jre-headless"), "-Xmx256m", "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={folder}",
        *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENED),
        "-cp", f"{folder}:{_JARS}/*", name,
    ]  # fmt: skip


def _configure(folder: Path, address: str) -> None:
    settings = {
        "fs.defaultFS": f"hdfs://{address}",
        "dfs.namenode.name.dir": f"file://{folder}/names",
        "dfs.namenode.http-address": f"{_HOST}:0",
        "dfs.datanode.data.dir": f"file://{folder}/blocks",
        "dfs.datanode.address": f"{_HOST}:0",
        "dfs.datanode.http.address": f"{_HOST}:0",
        "dfs.datanode.ipc.address": f"{_HOST}:0",
        "dfs.datanode.hostname": _HOST,
        "dfs.replication": "1",
        "dfs.webhdfs.enabled": "false",
        "dfs.heartbeat.interval": "1",
        # A quota is charged for whole blocks while they are written.
        "dfs.namenode.fs-limits.min-block-size": "1024",
    }
    properties = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>"
        for name, value in settings.items()
    )
    (folder / "hdfs-site.xml").write_text(f"<configuration>{properties}</configuration>")
    (folder / "core-site.xml").symlink_to("hdfs-site.xml")
    (folder / "log4j.properties").write_text(
        "log4j.rootLogger=INFO,console\n"
        "log4j.appender.console=org.apache.log4j.ConsoleAppender\n"
        "log4j.appender.console.target=System.err\n"
        "log4j.appender.console.layout=org.apache.log4j.SimpleLayout\n"
    )
    for application in ("hdfs", "datanode"):
        pages = folder / "webapps" / application / "WEB-INF"
        pages.mkdir(parents=True)
        (pages / "web.xml").write_text("<web-app/>")
