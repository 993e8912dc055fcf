from __future__ import annotations

import threading

import pytest

from raymlops.errors import CoordinationError, MissingFileError, StaleLeaseError, StorageError
from raymlops.storage import Store


def test_a_pointer_leads_to_what_its_newest_holder_wrote(store: Store) -> None:
    first, second = store.put(b"first"), store.put(b"second")
    with pytest.raises(MissingFileError, match="'flights/newest' points to nothing"):
        store.resolve("flights/newest")
    store.point("flights/newest", first, token=3)
    assert store.resolve("flights/newest") == first
    store.point("flights/newest", second, token=3)  # the same holder goes on
    assert store.resolve("flights/newest") == second
    store.point("flights/newest", first, token=10)
    assert store.resolve("flights/newest") == first
    assert list(store.files.list("refs/")) == ["refs/flights/newest/00000000000000000010"]


def test_a_holder_that_was_replaced_is_refused(store: Store) -> None:
    old, new = store.put(b"old"), store.put(b"new")
    store.point("newest", new, token=7)
    with pytest.raises(StaleLeaseError, match=r"holder of token 7, and this write carries 6") as e:
        store.point("newest", old, token=6)
    assert isinstance(e.value, CoordinationError)
    assert store.resolve("newest") == new


def test_a_stale_write_that_slips_past_the_check_is_not_seen(store: Store) -> None:
    old, new = store.put(b"old"), store.put(b"new")
    store.point("newest", new, token=7)
    store.files.write("refs/newest/00000000000000000006", old.encode())
    assert store.resolve("newest") == new
    store.point("newest", new, token=8)
    assert list(store.files.list("refs/")) == ["refs/newest/00000000000000000008"]


def test_pointers_whose_names_begin_alike_are_apart(store: Store) -> None:
    one, two = store.put(b"one"), store.put(b"two")
    store.point("a", one, token=1)
    store.point("a/b", two, token=2)
    store.point("ab", two, token=3)
    assert [store.resolve(name) for name in ("a", "a/b", "ab")] == [one, two, two]


def test_a_pointer_never_leads_to_nothing(store: Store) -> None:
    with pytest.raises(MissingFileError, match="'newest' cannot point to 0000"):
        store.point("newest", "0" * 64, token=1)
    with pytest.raises(StorageError, match="is no name inside a store"):
        store.resolve("../newest")
    with pytest.raises(StorageError, match="a part of 20 digits"):
        store.resolve("newest/00000000000000000001")
    with pytest.raises(ValueError, match="token is -1"):
        store.point("newest", store.put(b"x"), token=-1)


@pytest.mark.parametrize("uri", ["file", "s3"], indirect=True)
def test_readers_only_see_a_pointer_move_forward(store: Store) -> None:
    digests = {store.put(bytes([token])): token for token in range(40)}
    store.point("newest", next(iter(digests)), token=0)
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(digests[store.resolve("newest")])

    def write(tokens: list[int]) -> None:
        for token, digest in [(t, d) for d, t in digests.items() if t in tokens]:
            try:
                store.point("newest", digest, token=token)
            except StaleLeaseError:
                refused.append(token)

    refused: list[int] = []
    reader = threading.Thread(target=read)
    writers = [
        threading.Thread(target=write, args=(list(range(start, 40, 4)),)) for start in range(4)
    ]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert store.resolve("newest") == [*digests][39]
    assert seen == sorted(seen)
    assert 39 not in refused
