"""Storage: large files through raymlops and through the plain library, in the same run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.figures import Figure, paired_medians
from raymlops.storage import Files, Store
from raymlops.storage.store import file_digest

_GOAL_RATIO = 0.9
_MOST_EXTRA_MB = 200
_PIECE_BYTES = 4 << 20  # of the references, as of ours


def figures(quick: bool) -> list[Figure]:
    size_mb, artifact_mb, repeats = (32, 128, 3) if quick else (512, 2048, 5)
    found = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymlops-bench-")))
        source = folder / "source"
        source.write_bytes(os.urandom(1 << 20) * size_mb)
        for kind, uri, plain in stack.enter_context(_storages(folder)):
            found += _throughput(kind, uri, plain, source, size_mb, repeats)
            found.append(_memory(kind, uri, folder, artifact_mb))
    return found


class Plain:
    """The library that everybody would call, which verifies nothing."""

    def __init__(
        self, name: str, put: Callable[[Path, str], object], get: Callable[[str, Path], object]
    ) -> None:
        self.name, self.put, self.get = name, put, get


def _throughput(
    kind: str, uri: str, plain: Plain, source: Path, size_mb: int, repeats: int
) -> list[Figure]:
    files, store = Files(uri), Store(uri)
    target = source.with_name("target")
    digest = file_digest(source)
    blob = f"blobs/{digest[:2]}/{digest}"

    def put() -> None:
        files.delete(blob)  # in the reference too, or its file would be replaced and ours not
        store.put_file(source)

    def plain_put() -> None:
        files.delete("plain")
        plain.put(source, "plain")

    def hash_and_put() -> None:
        file_digest(source)
        plain_put()

    def plain_get() -> None:
        target.unlink(missing_ok=True)  # also here, as what appears whole is a new file
        plain.get("plain", target)

    def get_and_hash() -> None:
        plain_get()
        file_digest(target)

    def upload() -> None:
        files.delete("ours")
        files.upload(source, "ours")

    def download() -> None:
        target.unlink(missing_ok=True)
        files.download("ours", target)

    def fetch() -> None:
        target.unlink(missing_ok=True)
        store.fetch(digest, target)

    put(), plain_put(), upload()  # warm connections and caches
    calls = {
        "upload": (upload, plain_put, plain.name),
        "download": (download, plain_get, plain.name),
        "put_verified": (put, hash_and_put, f"sha256, then {plain.name}"),
        "fetch_verified": (fetch, get_and_hash, f"{plain.name}, then sha256"),
        "put_verified_against_unverified": (put, plain_put, plain.name),
        "fetch_verified_against_unverified": (fetch, plain_get, plain.name),
    }  # fmt: skip
    found = []
    for name, (ours, reference, peer) in calls.items():
        mine_s, theirs_s = paired_medians(ours, reference, repeats=repeats)
        aimed = "against" not in name  # hashing is work that the unverified call does not do
        found.append(
            Figure(
                name=f"storage_{kind}_{name}_mb_per_s",
                unit="MB/s",
                ours=size_mb / mine_s,
                references={peer: size_mb / theirs_s},
                goal=f">= {_GOAL_RATIO} of the reference" if aimed else None,
                met=theirs_s / mine_s >= _GOAL_RATIO if aimed else None,
            )
        )
    return found


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


def _memory(kind: str, uri: str, folder: Path, size_mb: int) -> Figure:
    """What the peak of a fresh process grows by when it stores and fetches one artifact."""
    source, target = folder / "artifact", folder / "fetched"
    with source.open("wb") as file:
        piece = os.urandom(1 << 20)
        for number in range(size_mb):
            file.write(number.to_bytes(4) + piece[4:])
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ROUND_TRIP, uri, source, target],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        source.unlink()
        target.unlink(missing_ok=True)
    extra_mb = float(done.stdout)
    return Figure(
        name=f"storage_{kind}_{size_mb}_mb_artifact_extra_memory_mb",
        unit="MB",
        ours=extra_mb,
        references={"the artifact": size_mb},
        goal=f"< {_MOST_EXTRA_MB}",
        met=extra_mb < _MOST_EXTRA_MB,
    )


@contextmanager
def _storages(folder: Path) -> Iterator[Iterator[tuple[str, str, Plain]]]:
    """Each kind of storage, on a server of its own, one after the other."""
    yield iter(_each(folder))


def _each(folder: Path) -> Iterator[tuple[str, str, Plain]]:
    from tests.servers.hdfs import hdfs
    from tests.servers.seaweedfs import seaweedfs

    yield "file", str(folder / "store"), _local(folder / "store")
    shutil.rmtree(folder / "store")
    with seaweedfs() as s3:
        s3.create_bucket("bench")
        yield "s3", s3.uri("bench/ours"), _arrow(s3.filesystem(), "bench/ours")
    with hdfs() as server:
        yield "hdfs", server.uri("ours"), _hdfs(server.uri(""), "/ours")


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
