"""Copies on a node of what lies in a store elsewhere."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from pathlib import Path

import pytest

from raymlops.errors import IntegrityError, MissingFileError, StorageError
from raymlops.storage import Copies, CopyingStore, Store

SMALL = b"0123456789"


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(folder=tmp_path / "node" / "copies", max_bytes=25)


def keep(copies: Copies, data: bytes, *, read_at_s: int) -> str:
    digest = digest_of(data)
    copies.put(digest, data)
    os.utime(copies.folder / digest, (read_at_s, read_at_s))
    return digest


def test_a_tree_that_was_read_is_read_again_without_its_store(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    store = CopyingStore(uri, Copies(folder=tmp_path / "copies", max_bytes=1000))
    digest = Store(uri).put_tree({"model": b"weights", "notes": b""})
    before = store.read_tree(digest)
    shutil.rmtree(uri)
    assert store.read_tree(digest) == before == {"model": b"weights", "notes": b""}
    with pytest.raises(MissingFileError):
        store.get(digest_of(b"never read"))


def test_what_verifies_a_blob_reads_the_stores_own(tmp_path: Path) -> None:
    store = CopyingStore(
        str(tmp_path / "store"), Copies(folder=tmp_path / "copies", max_bytes=1000)
    )
    digest = store.put(b"weights")
    store.get(digest)
    next((tmp_path / "store" / "blobs").rglob(digest)).write_bytes(b"changed")
    with pytest.raises(IntegrityError):
        store.verify(digest)
    assert store.get(digest) == b"weights"


def test_a_damaged_copy_is_no_copy(copies: Copies, caplog: pytest.LogCaptureFixture) -> None:
    digest = keep(copies, SMALL, read_at_s=1)
    (copies.folder / digest).write_bytes(b"torn")
    assert copies.get(digest) is None
    assert "is damaged, and is removed" in caplog.text
    assert list(copies.folder.iterdir()) == []


def test_what_was_read_longest_ago_makes_room(copies: Copies) -> None:
    first, second = keep(copies, b"a" * 10, read_at_s=1), keep(copies, b"b" * 10, read_at_s=2)
    assert copies.get(first) is not None
    third = keep(copies, b"c" * 10, read_at_s=3)
    assert copies.get(second) is None
    assert copies.get(first) == b"a" * 10
    assert copies.get(third) == b"c" * 10
    assert copies.sizes_bytes() == (10, 10)


def test_a_blob_beyond_the_bound_evicts_nothing(
    copies: Copies, caplog: pytest.LogCaptureFixture
) -> None:
    kept = keep(copies, SMALL, read_at_s=1)
    copies.put(digest_of(b"d" * 26), b"d" * 26)
    assert "storage.copies_mb" in caplog.text
    assert copies.get(kept) == SMALL
    assert copies.sizes_bytes() == (10,)


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(copies: Copies) -> None:
    keep(copies, SMALL, read_at_s=1)
    left, under_way = copies.folder / ".0a.part", copies.folder / ".0b.part"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    under_way.write_bytes(b"half")
    copies.put(digest_of(b"e"), b"e")
    assert not left.exists()
    assert under_way.exists()


def test_copies_are_nobody_elses(copies: Copies) -> None:
    digest = keep(copies, SMALL, read_at_s=1)
    assert copies.folder.stat().st_mode & 0o777 == 0o700
    assert (copies.folder / digest).stat().st_mode & 0o777 == 0o600


def test_a_node_that_takes_no_copy_reads_the_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "copies").write_text("a file")
    store = CopyingStore(
        str(tmp_path / "store"), Copies(folder=tmp_path / "copies", max_bytes=1000)
    )
    digest = store.put(b"weights")
    with caplog.at_level(logging.WARNING):
        assert store.get(digest) == b"weights"
    assert "no copy is kept in" in caplog.text


def test_several_at_once_get_whole_blobs_and_end_within_the_bound(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    copies = Copies(folder=tmp_path / "copies", max_bytes=3000)
    blobs = {Store(uri).put(bytes([i]) * 1000): bytes([i]) * 1000 for i in range(8)}
    wrong = []

    def read() -> None:
        store = CopyingStore(uri, copies)
        for _ in range(20):
            wrong.extend(digest for digest, data in blobs.items() if store.get(digest) != data)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    copies.put(digest_of(SMALL), SMALL)
    assert sum(copies.sizes_bytes()) <= 3000


def test_a_digest_cannot_lead_out_of_the_folder(copies: Copies) -> None:
    with pytest.raises(StorageError):
        copies.get("../ledger.db")
    with pytest.raises(StorageError):
        copies.put("../ledger.db", b"x")
