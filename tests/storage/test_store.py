from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections import deque
from pathlib import Path

import pytest

from raymlops.errors import IntegrityError, MissingFileError, StorageError
from raymlops.storage import Files, Store

LARGE = bytes(range(256)) * (40 << 10)


def blob(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"


def test_a_blob_is_named_by_its_bytes(store: Store, tmp_path: Path) -> None:
    digest = store.put(b"hello")
    assert digest == hashlib.sha256(b"hello").hexdigest()
    assert store.get(digest) == b"hello"
    (tmp_path / "same").write_bytes(b"hello")
    assert store.put_file(tmp_path / "same") == digest
    assert list(store.files.list()) == [blob(digest)]


def test_a_large_blob_comes_back(store: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    digest = store.put_file(tmp_path / "large")
    assert digest == hashlib.sha256(LARGE).hexdigest()
    assert store.get(digest) == LARGE
    store.fetch(digest, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == LARGE
    with store.open(digest) as stream:
        assert io.BufferedReader(stream).read() == LARGE


def test_changed_bytes_never_come_out_as_the_blob(store: Store, tmp_path: Path) -> None:
    digest = store.put(LARGE)
    store.files.write(blob(digest), LARGE[:-1] + b"!")
    message = f"blob {digest} in .* now has digest"
    with pytest.raises(IntegrityError, match=message):
        store.get(digest)
    with pytest.raises(IntegrityError, match=message):
        store.fetch(digest, tmp_path / "fetched")
    assert list(tmp_path.glob("*fetched*")) == []
    with pytest.raises(IntegrityError, match=message), store.open(digest) as stream:
        deque(iter(lambda: stream.read(1 << 20), b""), maxlen=0)


def test_a_stream_that_is_closed_early_is_verified_too(store: Store) -> None:
    digest = store.put(LARGE)
    store.files.write(blob(digest), LARGE[:-1] + b"!")
    with pytest.raises(IntegrityError, match="now has digest"), store.open(digest) as stream:
        assert stream.read(5) == LARGE[:5]
    with pytest.raises(ZeroDivisionError), store.open(digest):
        raise ZeroDivisionError  # what went wrong first is what is told


def test_a_truncated_blob_is_replaced_when_it_is_put_again(store: Store) -> None:
    digest = store.put(b"hello")
    store.files.write(blob(digest), b"hell")
    assert store.put(b"hello") == digest
    assert store.get(digest) == b"hello"


@pytest.mark.parametrize("digest", ["abc", "0" * 64])
def test_a_missing_blob_is_named(store: Store, digest: str) -> None:
    with pytest.raises(MissingFileError, match=f"no blob '?{digest}"):
        store.get(digest)


def test_a_source_that_changes_meanwhile_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    write = Files.write_chunks

    def change_then_write(files: Files, *arguments: object) -> None:
        source.write_bytes(LARGE[::-1])
        write(files, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Files, "write_chunks", change_then_write)
    with pytest.raises(StorageError, match="source changed while it was stored"):
        store.put_file(source)
    assert list(store.files.list()) == []


def test_a_source_that_is_missing_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="none cannot be read"):
        store.put_file(tmp_path / "none")


def test_a_tree_comes_back_whole(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(LARGE)
    digest = store.put_tree({"model/weights": tmp_path / "weights", "card.json": b"{}"})
    assert store.read_tree(digest) == {"model/weights": LARGE, "card.json": b"{}"}
    folder = store.fetch_tree(digest, tmp_path / "cache")
    assert (folder / "model" / "weights").read_bytes() == LARGE
    assert store.fetch_tree(digest, tmp_path / "cache") == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [digest]


def test_a_tree_that_cannot_be_fetched_leaves_nothing(store: Store, tmp_path: Path) -> None:
    digest = store.put_tree({"a": b"a", "b": b"b"})
    store.files.delete(blob(store.tree(digest)["b"]))
    with pytest.raises(MissingFileError, match="holds no blob"):
        store.fetch_tree(digest, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b", "", "."])
def test_names_outside_the_tree_are_refused(store: Store, name: str) -> None:
    with pytest.raises(StorageError, match="is no name inside a store"):
        store.put_tree({name: b"x"})


def test_a_tree_listing_that_was_made_by_hand_cannot_escape(store: Store, tmp_path: Path) -> None:
    blob = store.put(b"x")
    digest = store.put(f'{{"../escape":"{blob}"}}'.encode())
    with pytest.raises(StorageError, match="is no name inside a store"):
        store.fetch_tree(digest, tmp_path / "cache")
    assert not (tmp_path / "escape").exists()


def test_writers_of_the_same_bytes_do_not_disturb_each_other(store: Store) -> None:
    threads = [threading.Thread(target=store.put, args=(LARGE,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    digest = hashlib.sha256(LARGE).hexdigest()
    assert store.get(digest) == LARGE
    assert list(store.files.list()) == [blob(digest)]


def test_a_store_can_be_pickled(store: Store) -> None:
    digest = store.put(b"hello")
    assert pickle.loads(pickle.dumps(store)).get(digest) == b"hello"


def test_a_folder_below_stays_below(store: Store) -> None:
    below = Files(store.below("training"))
    below.write("a", b"x")
    assert list(store.files.list()) == ["training/a"]
    with pytest.raises(StorageError, match="is no name inside a store"):
        store.below("../elsewhere")


def test_a_file_uri_and_a_plain_path_are_the_same_store(tmp_path: Path) -> None:
    digest = Store(str(tmp_path / "a b")).put(b"hello")
    assert Store(f"file://{tmp_path}/a%20b").get(digest) == b"hello"
