"""Every kind of storage, on real servers, each test in a place of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.storage import Files, Store
from tests.servers.hdfs import HdfsServer, hdfs
from tests.servers.seaweedfs import S3Server, seaweedfs

KINDS = ("file", "s3", "hdfs")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with seaweedfs() as server:
        server.create_bucket("models")
        yield server


@pytest.fixture(scope="session")
def hdfs_server() -> Iterator[HdfsServer]:
    with hdfs() as server:
        yield server


@pytest.fixture(params=KINDS)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place in each kind of storage."""
    place = f"tests/{secrets.token_hex(4)}"
    match request.param:
        case "s3":
            return request.getfixturevalue("s3_server").uri(f"models/{place}")
        case "hdfs":
            return request.getfixturevalue("hdfs_server").uri(place)
    return f"file://{tmp_path}/store"


@pytest.fixture
def files(uri: str) -> Files:
    return Files(uri)


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri)
