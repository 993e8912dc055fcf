"""What goes wrong is said with the way out, and never with a secret."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from raymlops.cluster.address import free_port
from raymlops.errors import StorageError, UnavailableError
from raymlops.storage import Files, RetryPolicy, Store
from tests.disks import output_on_small_disk
from tests.servers.hdfs import HdfsServer
from tests.servers.seaweedfs import S3Server

ONCE = RetryPolicy(max_attempts=1)


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("ftp://x/y", "'ftp' is none of file, s3 and hdfs"),
        ("file://elsewhere/x", "it names the machine 'elsewhere'"),
        ("s3:///x", "it names no bucket"),
        ("s3://KEY@bucket/x", "half of a pair of keys"),
        ("s3://bucket/x?regoin=eu", r"unknown options \['regoin'\]; known are .*region"),
        ("s3://bucket/x#y", "write %23"),
        ("hdfs://me@host:9000/x", "HADOOP_USER_NAME"),
        ("hdfs://host:9000/x?a=b", "takes no options"),
    ],
)
def test_a_uri_that_cannot_be_used_is_refused(uri: str, problem: str) -> None:
    with pytest.raises(StorageError, match=f"storage.uri '.*' cannot be used: .*{problem}"):
        Store(uri)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_missing_credentials_are_named(s3_server: S3Server) -> None:
    files = Files(s3_server.uri("models/x", keys=False))
    with pytest.raises(StorageError, match=r"no credentials for bucket 'models'.* set AWS_ACCESS"):
        files.read("a")


def test_credentials_may_come_from_the_environment(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    files = Files(s3_server.uri("models/environment", keys=False))
    files.write("a", b"hello")
    assert files.read("a") == b"hello"


@pytest.mark.parametrize("keys", ["raymlops:wrong-one", "nobody:wrong-one"])
def test_wrong_credentials_are_refused_without_telling_the_secret(
    s3_server: S3Server, keys: str
) -> None:
    right = f"{s3_server.access_key}:{s3_server.secret_key}@"
    files = Files(s3_server.uri("models/x").replace(right, f"{keys}@"))
    key = keys.partition(":")[0]
    for call in (lambda: files.read("a"), lambda: files.write("a", b""), lambda: files.list()):
        with pytest.raises(StorageError, match=f"refuses the credentials.*key '{key}'") as caught:
            call()
        assert "wrong-one" not in f"{caught.value}{files}{files!r}"


def test_a_missing_bucket_is_named_and_not_made(s3_server: S3Server) -> None:
    files = Files(s3_server.uri("modles/x"))
    for call in (lambda: files.read("a"), lambda: files.write("a", b""), lambda: files.list()):
        with pytest.raises(StorageError, match=r"there is no bucket 'modles' at 127.*; create it"):
            call()


def test_a_server_that_is_not_there_is_named(s3_server: S3Server) -> None:
    port = free_port("127.0.0.1")
    uris = (
        s3_server.uri("models/x", endpoint=f"127.0.0.1:{port}"),
        f"hdfs://127.0.0.1:{port}/x",
    )
    for uri in uris:
        with pytest.raises(UnavailableError, match=rf"127.0.0.1:{port}.* check that the .*runs"):
            Files(uri, retry=ONCE).read("a")


def test_a_user_who_may_not_write_is_told_so(
    hdfs_server: HdfsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", "stranger")
    with pytest.raises(StorageError, match=r"user=stranger.* set HADOOP_USER_NAME"):
        Files(hdfs_server.uri("theirs")).write("a", b"x")


def test_a_quota_that_is_used_up_is_named(hdfs_server: HdfsServer) -> None:
    files = Files(hdfs_server.uri("small"))
    files.write("a", b"x")
    hdfs_server.limit_space("small", 1024)
    with pytest.raises(StorageError, match=r"over its quota.* free some space"):
        files.write("b", bytes(4 << 20))
    assert list(files.list()) == ["a"]


def test_a_full_bucket_is_thought_of(s3_server: S3Server) -> None:
    """Servers of S3 have no common word for it: this one answers with an internal error."""
    s3_server.create_bucket("small")
    files = Files(s3_server.uri("small/x"), retry=ONCE)
    files.write("a", bytes(2 << 20))
    s3_server.limit_space("small", 1)
    with pytest.raises(UnavailableError, match=r"'small' at .*has space left"):
        files.write("b", b"x")
    assert list(files.list()) == ["a"]


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    script = """
import sys
from raymlops.errors import StorageError
from raymlops.storage import Files
files = Files(sys.argv[1])
files.write("small", b"x")
try:
    files.write("large", bytes(8 << 20))
except StorageError as error:
    print(error)
import os
print(sorted(files.list()), os.listdir(sys.argv[1] + "/.staging"))
files.write("smaller", bytes(2 << 20))
"""
    error, left = output_on_small_disk(script, tmp_path)
    assert "the disk is full" in error
    assert "free some space and call again" in error
    assert left == "['small'] []"


def test_what_a_killed_writer_left_goes_in_the_end(tmp_path: Path) -> None:
    # Gigabytes of a model whose upload was killed stayed for ever, where nobody lists them.
    staging = tmp_path / ".staging"
    staging.mkdir()
    for name, days in (("old", 8), ("new", 6)):
        (staging / f".{name}.part").write_bytes(b"half")
        then = time.time() - days * 24 * 3600
        os.utime(staging / f".{name}.part", (then, then))
    Files(str(tmp_path)).write("a", b"whole")
    assert os.listdir(staging) == [".new.part"]


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "store"))
    files.write("inside/a", b"in")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"out")
    (tmp_path / "store" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "store" / "file").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "store" / "up").symlink_to("..")
    calls = [
        lambda: files.read("folder/secret"),
        lambda: files.read("file"),
        lambda: files.read("up/outside/secret"),
        lambda: files.write("folder/new", b"x"),
        lambda: files.write("file", b"x"),
        lambda: files.delete("folder/secret"),
        lambda: files.size("file"),
        lambda: list(files.list("folder/")),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=r"leads to .*, out of .*store"):
            call()
    assert list(files.list()) == ["inside/a"]
    assert (tmp_path / "outside" / "secret").read_bytes() == b"out"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]


def test_links_within_the_root_and_a_root_that_is_a_link_work(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files = Files(str(tmp_path / "link"))
    files.write("a", b"hello")
    (tmp_path / "real" / "b").symlink_to("a")
    assert files.read("b") == b"hello"
    files.delete("b")
    assert files.read("a") == b"hello"


def test_a_source_that_cannot_be_read_is_not_the_storages_fault(
    files: Files, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"none cannot be read: .*No such file"):
        files.upload(tmp_path / "none", "a")
    (tmp_path / "blocking").write_bytes(b"")
    files.write("a", b"x")
    with pytest.raises(StorageError, match="blocking/down cannot be written"):
        files.download("a", tmp_path / "blocking" / "down")
    assert list(files.list()) == ["a"]


def test_a_missing_client_for_hdfs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    with pytest.raises(StorageError, match=r"pip install 'raymlops\[hdfs\]'"):
        Files("hdfs://127.0.0.1:9/x").read("a")
