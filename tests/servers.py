"""Real servers for the tests: on loopback, on free ports, in folders of their own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from raymlops.cluster.address import free_port

_START_TIMEOUT_S = 30.0


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server, without a database's name at its end."""
    as_owner, owner = _unprivileged("postgres")
    folder = Path(tempfile.mkdtemp(prefix="raymlops-postgresql-"))
    shutil.chown(folder, owner)
    data, port = folder / "data", free_port("127.0.0.1")
    initialise = [
        _postgresql_program("initdb"), "-D", data, "-U", "raymlops", "-A", "trust", "--no-sync",
    ]  # fmt: skip
    serve = [
        _postgresql_program("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port),
        "-c", "unix_socket_directories=", "-c", "fsync=off",
    ]  # fmt: skip
    try:
        subprocess.run([*as_owner, *initialise], check=True, capture_output=True, cwd=folder)
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen([*as_owner, *serve], stdout=log, stderr=log, cwd=folder) as server,
        ):
            try:
                _wait_for_postgresql(port, server, folder / "log")
                yield f"postgresql+psycopg://raymlops@127.0.0.1:{port}"
            finally:
                server.terminate()
    finally:
        shutil.rmtree(folder)


def create_database(url: str, name: str) -> str:
    """The URL of a new database on the server."""
    address = url.replace("+psycopg", "")
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"{url}/{name}"


def _wait_for_postgresql(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="raymlops", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{log.read_text()}")
            time.sleep(0.05)


def _postgresql_program(name: str) -> str:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))
    if found is None:
        pytest.fail(f"{name} is not installed; apt-get install postgresql")
    return found


def _unprivileged(user: str) -> tuple[list[str], str]:
    """How to run a server that refuses to run as root, and who owns its files."""
    if os.getuid() != 0:
        return [], getpass.getuser()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.fail("setpriv is not installed; apt-get install util-linux")
    return [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups"], user
