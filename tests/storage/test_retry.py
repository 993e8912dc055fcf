from __future__ import annotations

from collections.abc import Iterator

import pytest

from raymlops.errors import StorageError, UnavailableError
from raymlops.storage import Files, RetryPolicy
from raymlops.storage.retry import Attempts, retried, wait_s
from tests.servers.hdfs import HdfsServer
from tests.servers.proxy import Proxy, proxy
from tests.servers.seaweedfs import S3Server

LARGE = bytes(range(256)) * (16 << 12)


def test_waits_double_up_to_the_longest_and_then_end() -> None:
    policy = RetryPolicy(max_attempts=6, first_wait_s=0.1, longest_wait_s=1.0)
    waits = [wait_s(policy, failures=failures, draw=0.5) for failures in range(1, 7)]
    assert waits == pytest.approx([0.075, 0.15, 0.3, 0.6, 0.75, None])


def test_jitter_spreads_over_the_upper_half() -> None:
    policy = RetryPolicy(first_wait_s=1.0)
    assert wait_s(policy, failures=1, draw=0.0) == 0.5
    assert wait_s(policy, failures=1, draw=0.999) == pytest.approx(0.9995)


@pytest.mark.parametrize(
    "settings", [{"max_attempts": 0}, {"first_wait_s": -1.0}, {"longest_wait_s": 0.01}]
)
def test_an_impossible_policy_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        RetryPolicy(**settings)  # type: ignore[arg-type]


def test_giving_up_says_how_often_and_how_long() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def call() -> None:
        raise UnavailableError("no answer")

    policy = RetryPolicy(max_attempts=3, first_wait_s=1.0)
    attempts = Attempts(policy, clock=lambda: now, sleep=sleep, draw=lambda: 0.0)
    with pytest.raises(UnavailableError, match=r"no answer; gave up after 3 attempts in 1\.5 s"):
        retried(call, attempts)


@pytest.fixture
def between(s3_server: S3Server) -> Iterator[Proxy]:
    with proxy(s3_server.endpoint) as between:
        yield between


def test_a_server_that_comes_back_is_found(s3_server: S3Server, between: Proxy) -> None:
    files = Files(s3_server.uri("models/back", endpoint=between.address), retry=ONCE)
    files.write("a", b"before")
    between.close()
    for call in (lambda: files.write("a", b"after"), lambda: files.list(), lambda: files.size("a")):
        with pytest.raises(UnavailableError, match="gave up after 1 attempts"):
            call()
    waits = Attempts(RetryPolicy(), sleep=lambda _: between.open())
    retried(lambda: files.write("a", b"after"), waits)
    assert files.read("a") == b"after"


def test_connections_that_are_cut_are_made_again(s3_server: S3Server, between: Proxy) -> None:
    files = Files(s3_server.uri("models/cut", endpoint=between.address), retry=QUICK)
    between.cut_next(7)  # the library itself tries three times
    files.write("a", b"hello")
    assert between.num_cut == 7
    assert files.read("a") == b"hello"


def test_a_download_goes_on_after_a_cut(s3_server: S3Server, between: Proxy) -> None:
    large = LARGE * 4
    Files(s3_server.uri("models/down")).write("large", large)
    files = Files(s3_server.uri("models/down", endpoint=between.address), retry=QUICK)
    chunks = files.chunks("large")
    read = next(chunks)
    between.cut_after(1 << 20)
    assert read + b"".join(chunks) == large
    assert between.num_cut == 1


def test_an_upload_that_is_cut_is_made_again(s3_server: S3Server, between: Proxy) -> None:
    files = Files(s3_server.uri("models/up", endpoint=between.address), retry=QUICK)
    rounds = []

    def chunks() -> Iterator[bytes]:
        rounds.append(len(rounds))
        yield LARGE
        if len(rounds) == 1:
            between.close()
        yield LARGE

    attempts = Attempts(QUICK, sleep=lambda _: between.open())
    backend = files._backend
    retried(lambda: backend.write("large", chunks()), attempts)
    assert len(rounds) == 2
    assert files.read("large") == LARGE + LARGE


def test_a_name_node_that_comes_back_is_found(hdfs_server: HdfsServer) -> None:
    with proxy(hdfs_server.address) as between:
        files = Files(hdfs_server.uri("back", address=between.address), retry=ONCE)
        between.close()
        with pytest.raises(UnavailableError, match="check that the name node runs"):
            files.size("a")
        waits = Attempts(RetryPolicy(), sleep=lambda _: between.open())
        retried(lambda: files.write("a", b"hello"), waits)
        assert files.read("a") == b"hello"


@pytest.mark.timeout(30)
def test_what_will_not_pass_is_not_tried_again(s3_server: S3Server) -> None:
    patient = RetryPolicy(first_wait_s=60.0, longest_wait_s=60.0)
    with pytest.raises(StorageError, match="there is no bucket 'missing'"):
        Files(s3_server.uri("missing/x"), retry=patient).write("a", b"x")


ONCE = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(first_wait_s=0.01)
