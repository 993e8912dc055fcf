from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from raymlops.errors import IntegrityError, StorageError
from raymlops.storage import Store


def blob_path(store: Store, digest: str) -> Path:
    return Path(store.uri) / "blobs" / digest[:2] / digest


def test_a_blob_is_named_by_its_bytes(store: Store, tmp_path: Path) -> None:
    digest = store.put(b"hello")
    assert digest == hashlib.sha256(b"hello").hexdigest()
    assert store.get(digest) == b"hello"
    (tmp_path / "same").write_bytes(b"hello")
    assert store.put_file(tmp_path / "same") == digest
    assert [path.name for path in (Path(store.uri) / "blobs").rglob("*") if path.is_file()] == [
        digest
    ]


def test_a_changed_byte_is_refused(store: Store) -> None:
    digest = store.put(b"hello")
    blob_path(store, digest).write_bytes(b"hellO")
    with pytest.raises(IntegrityError, match=f"blob {digest} in .* now has digest"):
        store.get(digest)


def test_a_missing_blob_is_named(store: Store) -> None:
    with pytest.raises(StorageError, match="holds no blob abc"):
        store.get("abc")


def test_a_tree_comes_back_whole(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w" * 3_000_000)
    digest = store.put_tree({"model/weights": tmp_path / "weights", "card.json": b"{}"})
    assert store.read_tree(digest) == {"model/weights": b"w" * 3_000_000, "card.json": b"{}"}
    folder = store.fetch_tree(digest, tmp_path / "cache")
    assert (folder / "model" / "weights").read_bytes() == b"w" * 3_000_000
    assert store.fetch_tree(digest, tmp_path / "cache") == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [digest]


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b", "", "."])
def test_names_outside_the_tree_are_refused(store: Store, name: str) -> None:
    with pytest.raises(StorageError, match="is no name inside a tree"):
        store.put_tree({name: b"x"})


def test_a_tree_listing_that_was_made_by_hand_cannot_escape(store: Store, tmp_path: Path) -> None:
    blob = store.put(b"x")
    digest = store.put(f'{{"../escape":"{blob}"}}'.encode())
    with pytest.raises(StorageError, match="is no name inside a tree"):
        store.fetch_tree(digest, tmp_path / "cache")
    assert not (tmp_path / "escape").exists()


def test_writers_of_the_same_bytes_do_not_disturb_each_other(store: Store) -> None:
    data = b"x" * 5_000_000
    threads = [threading.Thread(target=store.put, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    digest = hashlib.sha256(data).hexdigest()
    assert store.get(digest) == data
    assert [path.name for path in blob_path(store, digest).parent.iterdir()] == [digest]


def test_a_file_uri_and_a_plain_path_are_the_same_store(store: Store) -> None:
    digest = store.put(b"hello")
    assert Store(f"file://{store.uri}").get(digest) == b"hello"


def test_a_folder_below_stays_below(store: Store) -> None:
    assert store.below("training") == f"{store.uri}/training"
    with pytest.raises(StorageError, match="is no name inside a tree"):
        store.below("../elsewhere")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(StorageError, match=r"storage.uri 'ftp://x/y' cannot be used"):
        Store("ftp://x/y")
