"""The contract of storage, which every kind of it passes."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from raymlops.errors import MissingFileError, StorageError
from raymlops.storage import Files
from raymlops.storage.names import STAGING

# More than one chunk, and on S3 more than one part.
LARGE = bytes(range(256)) * (12 << 12)

WRITER = """
import sys
from raymlops.storage import Files

def chunks():
    for _ in range(6):
        yield b"n" * (4 << 20)
    print("half", flush=True)
    sys.stdin.read()

Files(sys.argv[1]).write_chunks("model", chunks)
"""


@pytest.mark.parametrize("data", [b"", b"hello", LARGE], ids=["empty", "small", "large"])
def test_what_is_written_is_read(files: Files, data: bytes) -> None:
    files.write("runs/7/plot.png", data)
    assert files.read("runs/7/plot.png") == data
    assert files.size("runs/7/plot.png") == len(data)
    assert list(files.list()) == ["runs/7/plot.png"]


def test_a_file_goes_up_and_comes_down(files: Files, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(LARGE)
    files.upload(tmp_path / "up", "weights")
    files.download("weights", tmp_path / "new" / "down")
    assert (tmp_path / "new" / "down").read_bytes() == LARGE
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["down"]


def test_a_stream_reads_in_pieces(files: Files) -> None:
    files.write("weights", LARGE)
    with files.open("weights") as stream:
        assert stream.read(3) == LARGE[:3]
        middle = stream.read(5_000_000)
        assert middle
        assert middle + stream.readall() == LARGE[3:]
        assert stream.read(1) == b""


def test_writing_again_replaces(files: Files) -> None:
    files.write("a", b"old and longer")
    files.write("a", b"new")
    assert files.read("a") == b"new"


def test_a_file_is_created_once(files: Files) -> None:
    assert files.create("a/b", b"first")
    assert not files.create("a/b", b"second")
    assert files.read("a/b") == b"first"
    files.delete("a/b")
    assert files.create("a/b", b"third")
    assert list(files.list()) == ["a/b"]


def test_of_all_who_create_a_file_at_once_one_does(tmp_path: Path) -> None:
    files, together = Files(str(tmp_path / "store")), Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        return files.create("a", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert [b"%d" % number for number in range(8) if created[number]] == [files.read("a")]
    assert list((tmp_path / "store" / STAGING).iterdir()) == []


def test_a_disk_without_hard_links_has_files_created_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "there are no links here")

    monkeypatch.setattr(os, "link", link)
    files = Files(str(tmp_path))
    assert [files.create("a", data) for data in (b"first", b"second")] == [True, False]
    assert files.read("a") == b"first"


def test_a_copy_is_a_file_of_its_own(files: Files) -> None:
    files.write("a", b"hello")
    files.copy("a", "copies/b")
    files.delete("a")
    assert files.read("copies/b") == b"hello"
    assert list(files.list()) == ["copies/b"]


def test_what_is_deleted_is_gone_and_may_be_deleted_again(files: Files) -> None:
    files.write("a/b", b"x")
    files.delete("a/b")
    files.delete("a/b")
    assert not files.exists("a/b")
    assert list(files.list()) == []


def test_what_is_missing_is_named(files: Files, tmp_path: Path) -> None:
    assert files.size("none") is None
    with pytest.raises(MissingFileError, match=r"there is no file .*none"):
        files.read("none")
    with pytest.raises(MissingFileError, match=r"there is no file .*none"):
        files.download("none", tmp_path / "none")
    with pytest.raises(MissingFileError, match=r"there is no file .*none"):
        files.copy("none", "a")
    assert list(tmp_path.glob("*none*")) == []


def test_names_keep_their_characters(files: Files) -> None:
    name = "a b+c/%41 é#&=?.txt"
    files.write(name, b"x")
    assert files.read(name) == b"x"
    assert list(files.list()) == [name]
    assert list(files.list("a b+")) == [name]


def test_a_listing_goes_beyond_a_thousand(files: Files) -> None:
    names = [f"many/{number:04}" for number in range(1_100)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda name: files.write(name, b""), names))
    files.write("else", b"")
    assert sorted(files.list("many/")) == names
    assert sorted(files.list("many/10")) == names[1_000:1_100]
    assert len(list(files.list())) == 1_101


@pytest.mark.parametrize(
    "name",
    ["", ".", "/etc/passwd", "../escape", "a/../../b", "a\\..\\b", "a\0b", "a\nb", "C:/x",
     f"{STAGING}/x"],
)  # fmt: skip
def test_a_name_that_could_lead_out_is_refused(files: Files, tmp_path: Path, name: str) -> None:
    calls = [
        lambda: files.write(name, b"x"),
        lambda: files.read(name),
        lambda: files.copy("a", name),
        lambda: files.delete(name),
        lambda: files.download(name, tmp_path / "x"),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="is no name inside a store"):
            call()


def test_a_write_that_fails_half_way_leaves_what_was_there(files: Files) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(6):
            yield b"n" * (4 << 20)
        raise KeyboardInterrupt

    files.write("model", b"old")
    for name in ("model", "other"):
        with pytest.raises(KeyboardInterrupt):
            files.write_chunks(name, chunks)
    gc.collect()
    assert list(files.list()) == ["model"]
    assert files.read("model") == b"old"


@pytest.mark.parametrize("old", [None, b"old"], ids=["new", "replaced"])
def test_a_writer_that_is_killed_leaves_what_was_there(
    files: Files, uri: str, old: bytes | None
) -> None:
    if old is not None:
        files.write("model", old)
    command = [sys.executable, "-c", WRITER, uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        assert files.size("model") == (None if old is None else len(old))
        writer.kill()
    assert list(files.list()) == ([] if old is None else ["model"])
    assert old is None or files.read("model") == old
    files.write("model", b"whole")
    assert files.read("model") == b"whole"


def test_files_can_be_pickled(files: Files) -> None:
    files.write("a", b"hello")
    assert pickle.loads(pickle.dumps(files)).read("a") == b"hello"
