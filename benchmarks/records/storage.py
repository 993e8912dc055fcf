"""Storage: large files through raymlops and through the plain library, in the same run.

Files are copied as they are, against the library's own copy; blobs are hashed as well, against
that copy and hashlib after it. Every call moves the whole file, and replaces none.

On HDFS the client, ours or not, waits half a second more at the end of about every second file:
with --quick its uploads say nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure, paired_medians
from raymlops.storage import Files, Store
from raymlops.storage.store import file_digest

_GOAL_RATIO = 0.9
_MOST_EXTRA_MB = 200
_PIECE_BYTES = 4 << 20  # of the references, as of ours


def figures(kind: str, quick: bool) -> list[Figure]:
    large_mb, hashed_mb, repeats = (32, 32, 3) if quick else (2048, 512, 2)
    with tempfile.TemporaryDirectory(prefix="raymlops-bench-") as name:
        folder = Path(name)
        large, hashed = _file(folder / "large", large_mb), _file(folder / "hashed", hashed_mb)
        with KINDS[kind](folder) as (uri, plain):
            measured = partial(_throughput, kind)
            found = [
                *(measured(*pair, large_mb, repeats) for pair in _copies(uri, plain, large)),
                *(measured(*pair, hashed_mb, 2 * repeats) for pair in _blobs(uri, plain, hashed)),
            ]
            return [*found, _memory(kind, uri, _file(large, 128 if quick else large_mb))]


def _file(path: Path, size_mb: int) -> Path:
    """A file no part of which is like another."""
    piece = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size_mb):
            file.write(number.to_bytes(4) + piece[4:])
    return path


class Plain:
    """The library that everybody would call, which verifies nothing."""

    def __init__(
        self, name: str, put: Callable[[Path, str], object], get: Callable[[str, Path], object]
    ) -> None:
        self.name, self.put, self.get = name, put, get


Pair = tuple[str, Callable[[], object], str, Callable[[], object]]
"""The name of what is done and our call, the peer's name and its call."""


def _copies(uri: str, plain: Plain, source: Path) -> Iterator[Pair]:
    """Files as they are; what they leave behind goes with the last."""
    files, target = Files(uri), source.with_name("target")
    files.write("warm", b"connected")

    def upload() -> None:
        files.delete("ours")
        files.upload(source, "ours")

    def download() -> None:
        target.unlink(missing_ok=True)
        files.download("ours", target)

    def plain_put() -> None:
        files.delete("plain")
        plain.put(source, "plain")

    def plain_get() -> None:
        target.unlink(missing_ok=True)
        plain.get("plain", target)

    yield "upload", upload, plain.name, plain_put
    yield "download", download, plain.name, plain_get
    files.delete("ours")
    files.delete("plain")
    target.unlink()


def _blobs(uri: str, plain: Plain, source: Path) -> Iterator[Pair]:
    """Files that are hashed on their way."""
    files, store, target = Files(uri), Store(uri), source.with_name("target")
    digest = file_digest(source)

    def put() -> None:
        files.delete(f"blobs/{digest[:2]}/{digest}")
        store.put_file(source)

    def fetch() -> None:
        target.unlink(missing_ok=True)
        store.fetch(digest, target)

    def hash_and_put() -> None:
        files.delete("plain")
        file_digest(source)
        plain.put(source, "plain")

    def get_and_hash() -> None:
        target.unlink(missing_ok=True)
        plain.get("plain", target)
        file_digest(target)

    yield "put_verified", put, f"sha256, then {plain.name}", hash_and_put
    yield "fetch_verified", fetch, f"{plain.name}, then sha256", get_and_hash
    target.unlink()


def _throughput(
    kind: str,
    what: str,
    ours: Callable[[], object],
    peer: str,
    reference: Callable[[], object],
    size_mb: int,
    repeats: int,
) -> Figure:
    reference()  # what comes first pays for the memory of pages, 2 s for 2 GiB
    mine_s, theirs_s = paired_medians(ours, reference, repeats=repeats)
    return Figure(
        name=f"storage_{kind}_{what}_mb_per_s",
        unit="MB/s",
        ours=size_mb / mine_s,
        references={peer: size_mb / theirs_s},
        goal=f">= {_GOAL_RATIO} of the reference",
        met=theirs_s / mine_s >= _GOAL_RATIO,
    )


_ROUND_TRIP = """
import sys
from pathlib import Path
from raymlops.storage import Store

def peak_mb():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

store, source, target = Store(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
store.get(store.put(b"warm"))
before = peak_mb()
store.fetch(store.put_file(source), target)
print(peak_mb() - before)
"""


def _memory(kind: str, uri: str, source: Path) -> Figure:
    """What the peak of a fresh process grows by when it stores and fetches one artifact."""
    target = source.with_name("target")
    done = subprocess.run(
        [sys.executable, "-c", _ROUND_TRIP, uri, source, target],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    extra_mb, size_mb = float(done.stdout), source.stat().st_size >> 20
    return Figure(
        name=f"storage_{kind}_{size_mb}_mb_artifact_extra_memory_mb",
        unit="MB",
        ours=extra_mb,
        references={"the artifact": size_mb},
        goal=f"< {_MOST_EXTRA_MB}",
        met=extra_mb < _MOST_EXTRA_MB,
    )


@contextmanager
def _on_file(folder: Path) -> Iterator[tuple[str, Plain]]:
    yield str(folder / "store"), _local(folder / "store")


@contextmanager
def _on_s3(_: Path) -> Iterator[tuple[str, Plain]]:
    from tests.servers.seaweedfs import seaweedfs

    with seaweedfs() as server:
        server.create_bucket("bench")
        yield server.uri("bench/ours"), _arrow(server.filesystem(), "bench/ours")


@contextmanager
def _on_hdfs(_: Path) -> Iterator[tuple[str, Plain]]:
    from tests.servers.hdfs import hdfs

    with hdfs() as server:
        yield server.uri("ours"), _hdfs(server.uri(""), "/ours")


KINDS: Mapping[str, Callable[[Path], AbstractContextManager[tuple[str, Plain]]]] = {
    "file": _on_file,
    "s3": _on_s3,
    "hdfs": _on_hdfs,
}


def _local(root: Path) -> Plain:
    def put(source: Path, name: str) -> None:
        # A copy that would survive a power cut, as ours does.
        shutil.copyfile(source, root / name)
        with (root / name).open("rb+") as file:
            os.fsync(file.fileno())

    def get(name: str, target: Path) -> None:
        shutil.copyfile(root / name, target)

    return Plain("shutil.copyfile, on disk", put, get)


def _arrow(filesystem: object, root: str) -> Plain:
    from pyarrow import fs

    def put(source: Path, name: str) -> None:
        fs.copy_files(str(source), f"{root}/{name}", fs.LocalFileSystem(), filesystem)

    def get(name: str, target: Path) -> None:
        fs.copy_files(f"{root}/{name}", str(target), filesystem, fs.LocalFileSystem())

    return Plain("pyarrow.fs.copy_files", put, get)


def _hdfs(url: str, root: str) -> Plain:
    import hdfs_native

    client = hdfs_native.Client(url)

    def put(source: Path, name: str) -> None:
        options = hdfs_native.WriteOptions(overwrite=True)
        with source.open("rb") as file, client.create(f"{root}/{name}", options) as out:
            while piece := file.read(_PIECE_BYTES):
                out.write(piece)

    def get(name: str, target: Path) -> None:
        with client.read(f"{root}/{name}") as file, target.open("wb") as out:
            while piece := file.read(_PIECE_BYTES):
                out.write(piece)

    return Plain("hdfs_native", put, get)
