"""PostgreSQL."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from raymlops.cluster.address import free_port
from tests.servers.process import program, running


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server, without a database's name at its end."""
    as_owner, owner = _unprivileged("postgres")
    folder = Path(tempfile.mkdtemp(prefix="raymlops-postgresql-"))
    data, port = folder / "data", free_port("127.0.0.1")
    initialise = [
        _program("initdb"), "-D", data, "-U", "raymlops", "-A", "trust", "--no-sync",
    ]  # fmt: skip
    serve = [
        _program("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port),
        "-c", "unix_socket_directories=", "-c", "fsync=off",
    ]  # fmt: skip

    def is_up() -> bool:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="raymlops", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        shutil.chown(folder, owner)
        subprocess.run([*as_owner, *initialise], check=True, capture_output=True, cwd=folder)
        # SIGINT throws clients out; on SIGTERM it would wait for those a failed test left behind.
        command = [*as_owner, *serve]
        with running(
            command, folder=folder, is_up=is_up, end_signal=signal.SIGINT, leaves=[folder]
        ):
            yield f"postgresql+psycopg://raymlops@127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder)


def create_database(url: str, name: str) -> str:
    """The URL of a new database on the server."""
    address = url.replace("+psycopg", "")
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"{url}/{name}"


def _program(name: str) -> str:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return program(name, package="postgresql", folders=folders)


def _unprivileged(user: str) -> tuple[list[str], str]:
    """How to run a server that refuses to run as root, and who owns its files."""
    if os.getuid() != 0:
        return [], getpass.getuser()
    setpriv = program("setpriv", package="util-linux")
    return [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups"], user
